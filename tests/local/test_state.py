"""The state folder: what is in it, who may read it, and who may use it."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from shop.local.accounts import Account, can_reach, own_folder, service_account, shared_temp
from shop.local.refusal import Refusal
from shop.local.state import SECRET_NAMES, SOCKET_PATH_BYTES, State, read_values, write_values
from tests.local.conftest import Stage

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_stay(state: State) -> None:
    """A second start signs with the same keys: nobody is signed out."""
    first = state.generated_secrets()

    assert State(state.path).generated_secrets() == first
    assert set(first) == set(SECRET_NAMES)
    assert len(set(first.values())) == len(SECRET_NAMES)
    assert min(map(len, first.values())) == 64
    assert mode(state.secrets) == 0o600


def test_a_new_kind_of_secret_is_added_to_the_known_ones(state: State) -> None:
    """A shop of an older version gets the key it lacks, and keeps the others."""
    write_values(state.secrets, {"SECRET_KEY": "mine", "TICKET_KEYS": ""})

    secrets = state.generated_secrets()

    assert secrets["SECRET_KEY"] == "mine"
    assert all(secrets[name] for name in SECRET_NAMES)
    assert read_values(state.secrets) == secrets


def test_only_its_owner_can_read_the_state(state: State) -> None:
    """Root's folder lets the servers' account pass to their data, and look at nothing."""
    write_values(state.environment, {"DATABASE_URL": "postgresql://shop@/shop?host=x"})

    assert mode(state.path) == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(state.log) == 0o700
    assert mode(state.environment) == 0o600
    assert mode(state.sockets(None)) == 0o700


def test_values_survive_their_file(state: State) -> None:
    """URLs contain equals signs."""
    values = {"BROKER_URL": "redis+socket:///tmp/x.sock?virtual_host=0", "EMPTY": ""}
    write_values(state.environment, values)
    assert read_values(state.environment) == values


def test_a_line_break_in_a_value_is_refused(state: State) -> None:
    """It would be read back as another variable."""
    with pytest.raises(Refusal, match="SHOP_URL contains a line break"):
        write_values(state.environment, {"SHOP_URL": "http://a\nPROFILE=production"})


def test_a_path_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    """A state folder that cannot be made."""
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match=r"^the state folder .*file/state cannot be used: Not a directory$"):
        State(tmp_path / "file" / "state")


def test_the_second_up_on_a_state_hears_of_the_first(state: State) -> None:
    """Two of them would fight for the data."""
    second = State(state.path)
    with state.locked(), pytest.raises(Refusal, match=f"already running on .*, as process {os.getpid()}$"):
        second.locked().__enter__()

    with second.locked():
        pass


def test_the_children_do_not_hold_the_lock(stage: Stage) -> None:
    """After `kill -9` of the supervisor its children live on, and the next start must not wait for them."""
    stage.start([{"name": "web", "habits": []}]).until("ready")
    stage.process.kill()  # type: ignore[union-attr]
    stage.end()

    with State(stage.state.path).locked():
        pass


def test_sockets_have_short_paths_wherever_the_state_is(tmp_path: Path) -> None:
    """A unix socket's path is at most 103 bytes long on macOS."""
    state = State(tmp_path / ("deep" * 20) / ("deeper" * 20))
    try:
        longest = state.sockets(None) / ".s.PGSQL.5432.lock"
        assert len(os.fsencode(longest)) <= SOCKET_PATH_BYTES
    finally:
        state.remove()


def test_a_temp_folder_that_is_too_long_is_refused(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable to set, instead of a server that cannot bind."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with pytest.raises(Refusal, match="too long a path for unix sockets: set TMPDIR to a shorter one"):
        state.sockets(None)


@as_root
def test_a_socket_folder_of_somebody_else_is_refused(state: State) -> None:
    """Anybody can make a folder in the temp folder, and would own our sockets."""
    folder = shared_temp() / state.name
    folder.mkdir()
    os.chown(folder, 12_345, 12_345)

    with pytest.raises(Refusal, match="belongs to somebody else: remove it, or choose another STATE"):
        state.sockets(service_account())


def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """It would lead our files to where its maker wants them."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(Refusal, match="belongs to somebody else"):
        own_folder(tmp_path / "link", None)


@as_root
def test_data_go_to_the_temp_folder_when_the_servers_cannot_reach_the_state(tmp_path: Path) -> None:
    """A checkout in root's home: the folder is closed to the account that PostgreSQL runs as."""
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    state, account = State(closed / "state"), service_account()
    try:
        assert not can_reach(account, state.path)
        assert state.data_home(account) == shared_temp() / f"{state.name}-data"
        assert can_reach(account, state.data_home(account))
    finally:
        state.remove()


def test_reaching_takes_every_folder_on_the_way(state: State) -> None:
    """The mode of the last folder alone says nothing."""
    stranger = Account("stranger", 12_345, 12_345)
    state.path.chmod(0o711)
    inner = state.path / "outer" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o755)

    inner.parent.chmod(0o755)
    assert can_reach(stranger, inner)
    inner.parent.chmod(0o700)
    assert not can_reach(stranger, inner)
