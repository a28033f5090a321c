"""Where a setting comes from, and what is said about one that cannot be."""

from pathlib import Path

import pytest

from registry.errors import Invalid
from registry.settings import Settings, load_settings


def test_flags_override_environment_overrides_file(tmp_path: Path) -> None:
    file = tmp_path / "lorimer.toml"
    file.write_text('port = 1\nmax_batch = 2\ntenant = "file"\n')
    environ = {"LORIMER_PORT": "3", "LORIMER_TENANT": "environment", "PATH": "/bin"}
    settings = load_settings({"tenant": "flag", "port": None}, environ=environ, file=file)
    assert (settings.max_batch, settings.port, settings.tenant) == (2, 3, "flag")


def test_nothing_set_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        ({"prot": 1}, {}, ("prot", "did you mean port")),
        ({}, {"LORIMER_PROT": "1"}, ("LORIMER_PROT", "LORIMER_PORT")),
        ({}, {"LORIMER_PORT": "many"}, ("int", "port")),
        ({}, {"LORIMER_DTYPE": "float8"}, ("float8", "dtype")),
    ],
)
def test_a_bad_setting_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, object],
    environ: dict[str, str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid) as caught:
        load_settings(flags, environ=environ)
    assert all(word in str(caught.value) for word in words)


def test_an_unknown_key_in_the_file_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "lorimer.toml"
    file.write_text("prefil_tokens = 1\n")
    with pytest.raises(Invalid, match=r"lorimer\.toml: prefil_tokens.*prefill_tokens"):
        load_settings(environ={}, file=file)
