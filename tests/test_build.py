"""scripts/build.py: results are kept by the contents they were made of."""

import sys

import pytest
from servers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import build  # noqa: E402


@pytest.fixture
def module():
    """The smallest module of the tree, as a plan knows it."""
    return min(build._plan("release").modules, key=lambda module: module.size_bytes)


def test_a_key_is_of_all_that_a_module_reads(module):
    texts: dict[str, bytes] = {}
    key = module.key
    read = build.dependencies(module.source, texts)
    assert module.source in read
    for path in sorted(read):
        changed = {**texts, path: texts.get(path) or build._text(path, texts)}
        changed[path] += b"\n# another line\n"
        build._give_key(module, build.environment("release"), changed)
        assert module.key != key, path
    build._give_key(module, build.environment("release"), texts)
    assert module.key == key


def test_a_source_that_changes_under_the_compiler_leaves_nothing_in_the_cache(module, capsys):
    assert build._still_has_its_key(module, "release")
    module.key = "of what was there before"
    assert not build._still_has_its_key(module, "release")
    assert "build again" in capsys.readouterr().out
