"""Download a file of "owner/name" from the hub, with the package `huggingface_hub` (extra `hub`)."""

from pathlib import Path

from mol_fast.utils.errors import UserError


def download(name: str, file: str, revision: str | None = None) -> Path:
    """Return the path of a file of "owner/name" in the cache of `huggingface_hub`; it is downloaded if it is not there.

    Login, cache and offline mode are those of the package: `hf auth login`, HF_HOME, HF_HUB_OFFLINE.

    Args:
        name: the model, "owner/name".
        file: name of the file.
        revision: branch, tag or commit. Default: the main branch.

    Raises:
        UserError: the package is not installed, there is no network, or no such model, revision or file.
    """
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise UserError(
            f"{name} is no path here, and to download it huggingface_hub is needed: pip install 'mol-fast[hub]'"
        ) from error
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # also where there is no network, or HF_HUB_OFFLINE is set
        raise UserError(
            f"{name} is no path here, and cannot be downloaded without network: download its {file} elsewhere, and "
            f"put it into a folder {name} here"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision}: give another one") from error
    except errors.EntryNotFoundError as error:
        raise UserError(
            f"{name} has no {file}, and files such as pytorch_model.bin may be pickles, which are never loaded: ask "
            "its owner to upload the folder of save_pretrained"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name} is neither a path here nor a model that you may read: check the name, or log in with hf auth login"
        ) from error
    except Exception as error:  # of several network packages, with many lines
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be downloaded ({reason}): try again, or give a path") from error
