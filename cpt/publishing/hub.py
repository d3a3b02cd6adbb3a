"""Upload a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from cpt.errors import UsageError


def require_repository_id(repository: str) -> None:
    """Raise `UsageError` if the text is no id of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"--to {repository}: {error}", hint="Write it like org/name.") from error


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to a model repository, which is made if there is none, and return its address.

    Args:
        folder: Folder with the model and its card.
        repository: Id of the repository, `org/name`.
        private: True for a new repository that only its owner sees.

    Raises:
        UsageError: There is no network, or no token that may write there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Model, card and recipe")
    except LocalTokenNotFoundError as error:
        hint = "Run `hf auth login`, or set HF_TOKEN."
        raise UsageError("no token of the hub is at hand", hint=hint) from error
    except Exception as error:  # the hub client raises its HTTP library's errors besides its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"{repository} cannot be uploaded: {reason}",
            hint="Try again with --to alone. A folder that --out wrote is whole: `hf upload` takes it, too.",
        ) from error
    return f"https://huggingface.co/{repository}"
