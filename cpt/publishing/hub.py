"""Upload a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from cpt.errors import UsageError


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to a model repository, which is made if there is none, and return its address.

    Args:
        folder: Folder with the model and its card.
        repository: Id of the repository, `org/name`.
        private: True for a new repository that only its owner sees.

    Raises:
        UsageError: The id is malformed, there is no network, or the token may not write there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Model, card and recipe")
    except HFValidationError as error:
        raise UsageError(f"--to {repository}: {error}", hint="Write it like org/name.") from error
    except LocalTokenNotFoundError as error:
        hint = "Run `hf auth login`, or set HF_TOKEN."
        raise UsageError("no token of the hub is at hand", hint=hint) from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{repository} cannot be uploaded: {reason}",
            hint="The same command tries again; --out DIR writes a folder without a network.",
        ) from error
    return f"https://huggingface.co/{repository}"
