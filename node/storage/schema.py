"""The schema's version: made, checked and brought up to date when a node starts.

Migrations are numbered and in one line. Before one runs on a database that holds
something, the file is copied beside itself; a database that a newer version wrote
is refused, because an older node could not keep what it does not know.
"""

import time
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from node.storage.engine import open_engine
from node.storage.health import diagnose
from protocol.errors import TelexError

__all__ = ["CURRENT", "DatabaseProblem", "check_schema", "migrate"]

CURRENT = "0004"
"""The migration that this code's tables stand at."""

_SCRIPTS = Path(__file__).parent / "migrations"


class DatabaseProblem(TelexError):
    """The database cannot be used; says why and what to do."""


def check_schema(path: Path) -> None:
    """Refuse a database that is missing, not ours, older or newer.

    Raises:
        DatabaseProblem: with what to do about it.
    """
    if not path.exists():
        raise DatabaseProblem(
            f"There is no database at {path}; run `telex-node init` first."
        )
    version = _version(path)
    if version is None or version < CURRENT:
        raise DatabaseProblem(
            f"The database {path} is of an older version; start the node once with "
            "`telex-node run`, which brings it up to date."
        )
    _refuse_newer(path, version)


def migrate(path: Path) -> Path | None:
    """Bring a database to this version, making it if it is not there.

    Args:
        path: the database file.

    Returns:
        The copy made before anything was changed, or None if nothing was.

    Raises:
        DatabaseProblem: it is of a newer version, damaged, or no database.
    """
    version = _version(path) if path.exists() else None
    if version is not None:
        _refuse_newer(path, version)
        if version == CURRENT:
            return None
    copy = _backup(path, version) if version is not None else None
    _upgrade(path)
    path.chmod(0o600)
    return copy


def _refuse_newer(path: Path, version: str) -> None:
    if version > CURRENT:
        raise DatabaseProblem(
            f"The database {path} was written by a newer version of Telex (schema "
            f"{version}, this one knows {CURRENT}); install that version again."
        )


def _version(path: Path) -> str | None:
    engine = open_engine(path)
    try:
        with engine.connect() as connection:
            names = connection.scalars(text("SELECT name FROM sqlite_master")).all()
            if not names:
                return None
            if "alembic_version" not in names:
                raise DatabaseProblem(f"{path} is not the database of a Telex node.")
            return _read_version(connection)
    except DatabaseError as error:
        health = diagnose(error, path)
        advice = "restore a backup."
        if health is not None and health.state != "damaged":
            advice = health.sentence()
        raise DatabaseProblem(
            f"The database {path} cannot be read ({error.orig}); {advice}"
        ) from error
    finally:
        engine.dispose()


def _read_version(connection: Connection) -> str | None:
    found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    return str(found[0]) if found else None


def _backup(path: Path, version: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy = path.with_name(f"{path.stem}-before-{CURRENT}-from-{version}-{stamp}.db")
    engine = open_engine(path)
    try:
        with engine.connect() as connection:
            # VACUUM INTO writes a whole, consistent file, write-ahead log included.
            connection.exec_driver_sql("VACUUM INTO ?", (str(copy),))
    except DatabaseError as error:
        copy.unlink(missing_ok=True)
        raise DatabaseProblem(
            f"The database {path} has to be brought up to date, and no copy of it can "
            f"be made before ({error.orig}); nothing was changed: make room for it."
        ) from error
    finally:
        engine.dispose()
    copy.chmod(0o600)
    return copy


def _upgrade(path: Path, version: str = "head") -> None:
    # Alembic costs a fifth of a second to import: only when there is work.
    from alembic import command
    from alembic.config import Config

    engine = open_engine(path)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config = Config()
            config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, version)
            connection.commit()
    except DatabaseError as error:
        raise DatabaseProblem(
            f"The database {path} could not be brought up to date ({error.orig}); "
            "it is as it was before."
        ) from error
    finally:
        engine.dispose()
