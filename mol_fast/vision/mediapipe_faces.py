"""Find and follow faces with MediaPipe's models (Apache-2.0), which OpenCV runs.

Needs the extra `faces`. The models are fetched when a finder is made for the first time, see `face_models`.
"""

import numpy as np
import numpy.typing as npt

from mol_fast.vision.boxes import area, overlaps
from mol_fast.vision.face_detector import FaceDetector
from mol_fast.vision.face_mesh import FaceMesh, Mesh, ibug_landmarks
from mol_fast.vision.face_models import face_models
from mol_fast.vision.faces import Face, FaceFinder, check_frame


class MediaPipeFinder(FaceFinder):
    """Finder of faces whose score is that of the landmark network, from 0 to 1.

    It finds faces from about 1/14 of the longer side of a frame on, and from 1/22 if there is no larger one. Heads may
    be tilted by up to 90 degrees. The box is that of the points, from forehead to chin.

    Args:
        min_score: ignore faces with a lower score.

    Raises:
        UserError: the extra `faces` is not installed; the models cannot be fetched or are damaged.
    """

    def __init__(self, min_score: float) -> None:
        models = face_models()
        self.min_score = min_score
        self._detector = FaceDetector(models.detector)
        self._mesh = FaceMesh(models.mesh)

    def find_all(self, frame: npt.NDArray[np.uint8], thorough: bool = True, known: Face | None = None) -> list[Face]:
        check_frame(frame)
        meshes: list[Mesh] = [known.mesh] if known is not None and known.mesh is not None else []
        followed = [mesh.box for mesh in meshes]
        for detections in self._detector.searches(frame):
            for detection in detections:
                if overlaps(detection.box, followed):
                    continue
                mesh = self._mesh.in_box(frame, detection.box, detection.eyes)
                if mesh.score >= self.min_score and not overlaps(mesh.box, (other.box for other in meshes)):
                    meshes.append(mesh)
            if meshes or not thorough:
                break
        return [_face(mesh, len(meshes)) for mesh in sorted(meshes, key=lambda mesh: -area(mesh.box))]

    def follow(self, frame: npt.NDArray[np.uint8], last: Face) -> Face | None:
        face = self.update(frame, last)
        return face if face.score >= self.min_score else None

    def update(self, frame: npt.NDArray[np.uint8], last: Face) -> Face:
        check_frame(frame)
        assert last.mesh is not None
        return _face(self._mesh.follow(frame, last.mesh), last.found)


def _face(mesh: Mesh, found: int) -> Face:
    return Face(mesh.box, mesh.score, ibug_landmarks(mesh.points), found, mesh)
