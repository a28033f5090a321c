"""References people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Invalid
from registry.names import Alias, Digest, ModelRef, Number, check_alias, parse_ref

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
ALIASES = NAMES.filter(lambda name: name != "sha256" and not (name[0] == "v" and name[1:].isdigit()))
SELECTORS = (
    st.builds(Alias, ALIASES)
    | st.builds(Number, st.integers(1, 10**17))
    | st.builds(Digest, st.from_regex(r"[0-9a-f]{6,64}", fullmatch=True))
)


@given(tenant=st.none() | NAMES, adapter=NAMES, selector=SELECTORS)
def test_every_reference_reads_back(tenant: str | None, adapter: str, selector: Alias | Number | Digest) -> None:
    ref = ModelRef(tenant, adapter, selector)
    assert parse_ref(str(ref)) == ref


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_invalid(text: str) -> None:
    try:
        parse_ref(text)
    except Invalid:
        return


def test_the_default_alias_is_prod() -> None:
    assert parse_ref("support") == ModelRef(None, "support", Alias("prod"))


@pytest.mark.parametrize(
    "text", ["", "@prod", "a@", "a@@b", "A", "a b", "../a", "a/b/c", "/a", "a/", ".a", "a@sha256:xyz", "x" * 65, "a\n"]
)
def test_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_ref(text)


@pytest.mark.parametrize("text", ["v1", "v20", "sha256", ""])
def test_aliases_that_read_as_versions(text: str) -> None:
    with pytest.raises(Invalid):
        check_alias(text)
