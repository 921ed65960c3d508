"""The page's files: nothing inline, nothing from elsewhere, and all that is referred to."""

import re
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "src" / "layerwise" / "serving" / "page"
FILES = sorted(PAGE.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
HTML = (PAGE / "index.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.within: list[str] = []
        self.inside = ""  # of scripts and styles

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_data(self, data):
        if self.within and self.within[-1] in ("script", "style"):
            self.inside += data


@pytest.fixture(scope="module")
def tags():
    parser = Tags()
    parser.feed(HTML)
    return parser


def test_nothing_is_inline(tags):
    assert tags.inside.strip() == ""
    assert not [tag for tag, _ in tags.found if tag == "style"]
    named = [(tag, name) for tag, each in tags.found for name in each]
    assert [pair for pair in named if pair[1] == "style" or pair[1].startswith("on")] == []


def test_what_is_loaded_is_there(tags):
    loaded = [
        each.get("src") or each.get("href") for tag, each in tags.found if tag in ("script", "link")
    ]
    assert len(loaded) == 3
    assert [name for name in loaded if not (PAGE / name.removeprefix("static/")).is_file()] == []


def test_every_id_is_there_once_and_every_label_has_its_control(tags):
    ids = [each["id"] for _, each in tags.found if "id" in each]
    assert sorted(set(ids)) == sorted(ids)
    asked = {
        name for path in SCRIPTS for name in re.findall(r'byId\("([\w-]+)"\)', path.read_text())
    }
    assert len(asked) > 40 and asked - set(ids) == set()
    spoken = ("for", "aria-labelledby", "aria-describedby")
    referred = {
        name for _, each in tags.found for key in spoken for name in (each.get(key) or "").split()
    }
    assert referred - set(ids) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path):
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[\w-]+\.\w+", text) == []
    assert not re.search(
        r"\beval\(|innerHTML|outerHTML|document\.write|new Function|localStorage|document\.cookie",
        text,
    )
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_is_imported_is_exported(path):
    for names, other in re.findall(r'import \{([^}]+)\} from "\./([\w.]+)"', path.read_text()):
        exported = set(
            re.findall(
                r"export (?:async )?(?:const|function|class) (\w+)", (PAGE / other).read_text()
            )
        )
        assert {name.strip() for name in names.split(",")} - exported == set(), other


def test_all_files_are_packed():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = table["tool"]["setuptools"]["package-data"]["layerwise"]
    names = [str(path.relative_to(PAGE.parents[1])) for path in FILES]
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)] == []
