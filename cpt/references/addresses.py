"""Fetch files from stores that fsspec reaches (s3://, gs://, https:// ...) into the cache, by version.

The fingerprint of an address is made of what its store says of each file: ETag, checksum, time and size. So
a changed file is noticed without fetching it. Fetched files are kept by that fingerprint with their SHA-256,
and what is read later is compared with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cpt.errors import ReferenceUnavailable
from cpt.progress import Progress
from cpt.references.cache import building, cache_folder, file_sha256, publish, visible_files
from cpt.references.syntax import Address

_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "az": "adlfs", "oss": "ossfs", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol",
    "http": "aiohttp", "https": "aiohttp", "oci": "ocifs", "webdav": "webdav4",
}  # fmt: skip
"""The package that fsspec needs for a protocol."""

_VERSION = (
    "ETag", "etag", "e_tag", "md5Hash", "md5", "Content-MD5", "content_md5", "crc32c", "generation",
    "VersionId", "version_id", "Digest", "LastModified", "Last-Modified", "last_modified", "mtime", "updated",
    "created",
)  # fmt: skip
"""Keys under which stores give the version of a file."""

_CONTENT, _MANIFEST = "content", "manifest.json"
_HINT = "Check the address, the network, and the login, which the store's package has."


def require_package(location: Address) -> None:
    """Raise unless fsspec knows the protocol and its package is installed."""
    import fsspec
    from fsspec.registry import known_implementations

    try:
        fsspec.get_filesystem_class(location.protocol)
    except ImportError as error:
        package = _PACKAGES.get(location.protocol)
        said = str(known_implementations.get(location.protocol, {}).get("err", error))
        raise ReferenceUnavailable(
            f"{location.url}: {location.protocol}:// needs a package: {said}",
            hint=f"pip install {package}" if package else None,
        ) from error
    except ValueError as error:
        raise ReferenceUnavailable(
            f"{location.url}: fsspec knows no protocol {location.protocol}://",
            hint="For example s3://, gs://, abfs://, https://.",
        ) from error


def fingerprint(location: Address) -> str:
    """Return the SHA-256 over the names and versions of the files at an address; nothing is fetched.

    Raises:
        ReferenceUnavailable: The store cannot be reached, has no such file, or gives no versions.
    """
    return _fingerprint(_listing(location))


def fingerprint_of(files: Mapping[Path, str]) -> str:
    """Return the fingerprint of the address that files were fetched from, if they are what was fetched.

    Args:
        files: SHA-256 of the read bytes of each file below a folder that `fetch` made.

    Returns:
        The fingerprint, or an empty text if a file is not what was fetched.
    """
    folder = next((at for path in files for at in path.parents if (at.parent / _MANIFEST).is_file()), None)
    if folder is None:
        return ""
    manifest = json.loads((folder.parent / _MANIFEST).read_text(encoding="utf-8"))
    read = {path.relative_to(folder).as_posix(): sha256 for path, sha256 in files.items()}
    return str(manifest["fingerprint"]) if manifest["files"] == read else ""


def fetch(location: Address, progress: Progress, pin: str | None = None) -> Path:
    """Return the local copy of an address: a file, or a folder with the files below it or matching it.

    Args:
        pin: SHA-256 of the file, by which a copy is found without asking the store; the caller verifies it.

    Raises:
        ReferenceUnavailable: The files cannot be fetched, or changed meanwhile.
    """
    listing = None if pin is not None else _listing(location)
    mark = pin if listing is None else _fingerprint(listing)
    target = (
        cache_folder() / "addresses" / hashlib.sha256(f"{location.url}\0{mark}".encode()).hexdigest()[:32]
    )
    if not target.is_dir():
        with building(target) as scratch:
            if not target.is_dir():
                built = scratch / "built"
                _fill(location, listing, built, pin or "", progress)
                publish(built, target)
    manifest = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
    content = target / _CONTENT
    return content / next(iter(manifest["files"])) if manifest["is_file"] else content


def _fill(location: Address, versions: _Listing | None, built: Path, pin: str, progress: Progress) -> None:
    """Fetch the files at an address, and note their hashes.

    Args:
        versions: The files as planned; None for one file with a pin.
    """
    content, listing = built / _CONTENT, versions or _listing(location)
    mark = pin or _fingerprint(listing)
    size = sum(int(info.get("size") or 0) for info in listing.files.values())
    progress.message(f"fetching {location.url}: {len(listing.files):,} files, {size / 1e6:,.1f} MB")
    _download(location, listing, content)
    if not pin and _fingerprint(_listing(location)) != mark:
        raise ReferenceUnavailable(
            f"{location.url} changed while it was fetched",
            hint="Run again when nothing writes to it any more.",
        )
    hashes = {path.relative_to(content).as_posix(): file_sha256(path) for path in visible_files(content)}
    manifest = {"url": location.url, "fingerprint": mark, "files": hashes, "is_file": listing.is_file}
    (built / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


class _Listing:
    """The files at an address.

    Attributes:
        store: File system of fsspec.
        files: What the store says of each file, by its path below the address.
        paths: Path in the store of each.
        is_file: Whether the address is that of one file.
    """

    def __init__(self, store: Any, root: str, files: Mapping[str, Mapping[str, Any]], is_file: bool) -> None:
        self.store, self.is_file = store, is_file
        names = {_name(path, root): path for path in sorted(files)}
        self.paths = {name: path for name, path in sorted(names.items()) if name}
        self.files = {name: files[path] for name, path in self.paths.items()}


def _listing(location: Address) -> _Listing:
    import fsspec

    require_package(location)
    try:
        store, path = fsspec.core.url_to_fs(location.url)
        store.invalidate_cache()
        if location.is_pattern:
            found = {each: info for each, info in store.glob(path, detail=True).items() if _is_file(info)}
            root = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
            listing = _Listing(store, root, found, False)
        elif location.protocol in ("http", "https") or store.isfile(path):
            listing = _Listing(store, "", {path: store.info(path)}, True)
        else:
            listing = _Listing(store, path, store.find(path, detail=True), False)
    except Exception as error:  # every store raises the errors of its own library
        raise _unavailable(location, error) from error
    if not listing.files:
        raise ReferenceUnavailable(f"{location.url}: there is no such file", hint=_HINT)
    return listing


def _is_file(info: Mapping[str, Any]) -> bool:
    return info.get("type") == "file"


def _name(path: str, root: str) -> str:
    """Return a file's path below the root; empty for hidden ones.

    Raises:
        ReferenceUnavailable: It would lead out of the folder that it is fetched to.
    """
    name = path.removeprefix(root).lstrip("/") if root else PurePosixPath(path.partition("?")[0]).name
    parts = name.split("/")
    if any(part in ("", "..") or "\\" in part or "\0" in part for part in parts):
        raise ReferenceUnavailable(f"the store has a file with an unsafe name: {path!r}")
    return "" if any(part.startswith(".") for part in parts) else name


def _fingerprint(listing: _Listing) -> str:
    lines = []
    for name, info in listing.files.items():
        version = {key: str(info[key]) for key in _VERSION if info.get(key)}
        if not version:
            raise ReferenceUnavailable(
                f"{listing.paths[name]}: its store gives neither checksum nor time to notice changes by",
                hint="Pin the file: put #sha256= and its SHA-256 after the address.",
            )
        lines.append(json.dumps([name, info.get("size"), version], sort_keys=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _download(location: Address, listing: _Listing, folder: Path) -> None:
    for name, path in listing.paths.items():
        local = folder / name
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            listing.store.get_file(path, str(local))
        except Exception as error:  # as in `_listing`
            raise _unavailable(location, error) from error
        size = listing.files[name].get("size")
        if size is not None and local.stat().st_size != size:
            raise ReferenceUnavailable(
                f"{location.url}: {name} has {local.stat().st_size:,} bytes instead of {size:,}",
                hint="The transfer was cut off: run again.",
            )


def _unavailable(location: Address, error: Exception) -> ReferenceUnavailable:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ReferenceUnavailable(
        f"cannot read {location.url}: {type(error).__name__}: {said[:300]}", hint=_HINT
    )
