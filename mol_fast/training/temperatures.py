"""Store the temperature of each fold in its weights, once all folds of a run are finished."""

import hashlib
from dataclasses import replace
from pathlib import Path

from mol_fast.nn.weights import FILE_NAME, with_temperature
from mol_fast.runs.folder import fold_folder
from mol_fast.runs.pooled import PooledResults
from mol_fast.utils.files import file_sha256, write_atomic


def store_temperatures(path: Path, pooled: PooledResults) -> None:
    """Store the temperatures of the run in `path`. An interruption leaves every fold finished, with either weights.

    Raises:
        UserError: weights cannot be read.
    """
    for calibration in pooled.calibrations.values():
        for fold, temperature in calibration.temperatures.items():
            folder, results = fold_folder(path, fold), pooled.folds[fold]
            weights = folder / FILE_NAME
            content = with_temperature(weights, temperature)
            there, checksum = file_sha256(weights), hashlib.sha256(content).hexdigest()
            if checksum == there:
                continue
            # results name both files before one replaces the other
            replace(results, weights=there, calibrated=checksum).write(folder)
            write_atomic(weights, content)
