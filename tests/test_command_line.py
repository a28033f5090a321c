"""The command line as a user types it: help without torch, stable exit codes, one line for an error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorimer import VERBS


def lorimer(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lorimer", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_verb_and_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, lorimer\nsys.argv = ['lorimer', '--help']\n"
        "try: lorimer.main()\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, tmp_path: Path) -> None:
    done = lorimer(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: lorimer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["registry", "show", "nobody"], 3, "lorimer registry init"),
        (["registry", "list", "--dtype", "float8"], 2, "float8"),
        (["registry", "list", "--store", "ftp://x"], 2, "ftp"),
        (["no-such-verb"], 2, "no-such-verb"),
    ],
)
def test_errors_are_one_clear_line_with_a_stable_code(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = lorimer(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_under_json_is_one_object(tmp_path: Path) -> None:
    done = lorimer("registry", "show", "nobody", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"] == "not_found"
