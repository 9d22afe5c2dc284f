"""What the page asks of a browser, and what it says if the browser refuses."""

import json

from mol_fast.demo import words

CAMERA = {
    "video": {"width": {"ideal": 1280}, "height": {"ideal": 720}, "frameRate": {"ideal": 30}},
    "audio": False,
}
"""The recording that is asked for.

Many frames show a short movement better than large ones do. With sound, a machine without a microphone would give no
picture either.
"""
REASONS = {
    "NotAllowedError": "The browser does not let this page use a camera: allow it beside the address, then try again.",
    "NotFoundError": "No camera was found: connect one, then try again.",
    "NotReadableError": "The camera cannot be read: close other programs that use it, then try again.",
}
"""What to do if there is no picture, by the names of a browser's errors."""
_PLACE = "{reason}"
_NO_CAMERA = words.message("The camera cannot be used", _PLACE)
_NOT_SHOWN = words.message("The browser cannot show this video", "Perhaps it can be analysed: press Find the moments.")
# Gradio is silent if a browser refuses the camera, and says "Video not playable" of each video that we can read and the
# browser cannot.
WATCH = f"""
const reasons = {json.dumps(REASONS)};
const cameras = navigator.mediaDevices;
if (cameras?.getUserMedia) {{
  const ask = cameras.getUserMedia.bind(cameras);
  cameras.getUserMedia = wanted => ask(wanted).catch(error => {{
    const told = document.createElement("p");
    told.textContent = reasons[error.name] ?? `The browser says: ${{error.message}}`;
    props.value = {json.dumps(_NO_CAMERA)}.replace({json.dumps(_PLACE)}, () => told.innerHTML);
    throw error;
  }});
}}
document.addEventListener("error", event => {{
  if (event.target.matches?.("#video video")) {{
    event.stopImmediatePropagation();
    props.value = {json.dumps(_NOT_SHOWN)};
  }}
}}, true);
"""
"""JavaScript that a part of the page runs once it is loaded; it shows these messages."""
