from __future__ import annotations

from pinchpoint.schema.names import Names
from pinchpoint.schema.observations import Name, NameKind
from pinchpoint.schema.terms import OTHER

METHOD = Name(3, NameKind.METHOD, 0, "/a.B/C")


def test_a_name_is_known_to_its_own_source_only() -> None:
    """Two servers give the same number to different names."""
    names = Names()
    names.learn(1, METHOD)

    assert names.text(1, 3) == "/a.B/C"
    assert names.text(2, 3) == OTHER


def test_what_was_never_defined_is_other() -> None:
    """Id 0, an unknown id and no id at all have no text of their own."""
    names = Names()
    names.learn(1, METHOD)

    assert [names.text(1, name_id) for name_id in (0, 4, None)] == [OTHER] * 3
    assert names.get(1, None) is None


def test_a_source_that_is_gone_takes_its_names_with_it() -> None:
    """Source numbers may be long-lived; what they held must not be."""
    names = Names()
    names.learn(1, METHOD)
    names.forget(1)
    names.forget(1)

    assert names.get(1, 3) is None
