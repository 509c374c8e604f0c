"""Makes a site out of a backup, after every byte of it was found to be what was backed up.

The settings file is put in place last, so a restore that was cut short leaves no site. The site is marked as restored: it signs
nothing before its peers told what they have seen of its log.

Rules:      1. nothing that exists is overwritten  2. nothing is linked: the restored site shares no file with the backup
"""

import os
import shutil
from pathlib import Path

from carnet.errors import CallerError
from gateway.backing_up.contents import MANIFEST, Manifest, read_manifest, verify_backup
from gateway.catalog.migrate import check
from gateway.proposals import read_card
from gateway.settings import FILE_NAME
from gateway.sitedir import CARD_NAME, SitePaths, mark_restored
from gateway.storage.durable import make_directory, sync_directory, sync_file
from gateway.translog.verify import verify_directory


def restore_backup(backup: Path, directory: Path) -> Manifest:
    """Make the site in the new directory `directory`; return what the backup says of itself. Blocks.

    Raises:
        CallerError: E-CONFIG if `directory` is not empty, E-DATABASE for a catalog of another version.
        IntegrityError: E-BACKUP or E-LOG if the backup is not what was written.
    """
    if directory.exists() and any(directory.iterdir()):
        raise CallerError("E-CONFIG", f"{directory} is not empty", remedy="restore into a new directory")
    manifest = read_manifest(backup)
    verify_backup(backup, manifest)
    check(backup / "catalog.sqlite")
    card = read_card(backup / CARD_NAME)
    verify_directory(backup / "log", origin=f"{card.trust_domain}/site/{card.name}/log", key=card.signing_key)
    make_directory(directory)
    directory.chmod(0o700)
    names = [path.relative_to(backup) for path in sorted(backup.rglob("*")) if path.is_file() and path.name != MANIFEST]
    for name in sorted(names, key=lambda one: one == Path(FILE_NAME)):
        if name == Path(FILE_NAME):
            verify_backup_copy(directory, manifest)
            mark_restored(SitePaths(directory), (backup / MANIFEST).read_bytes())
        _copy(backup / name, directory / name)
    sync_directory(directory)
    return manifest


def verify_backup_copy(directory: Path, manifest: Manifest) -> None:
    """Return if all but the settings arrived as they are in the backup; raise `IntegrityError` E-BACKUP otherwise."""
    files = {name: digest for name, digest in manifest.files.items() if name != FILE_NAME}
    verify_backup(directory, manifest.model_copy(update={"files": files}))


def _copy(source: Path, target: Path) -> None:
    make_directory(target.parent)
    shutil.copyfile(source, target)
    target.chmod(0o600)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        sync_file(descriptor, target.name)
    finally:
        os.close(descriptor)
