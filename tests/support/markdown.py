"""Reads our markdown pages as a reader does: headings, links, code blocks, tables. For tests of pages against code."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = tuple(
    sorted(
        path
        for pattern in ("*.md", "docs/**/*.md", "protocol/*.md", "deploy/*.md", "deploy/contracts/*.md")
        for path in REPOSITORY.glob(pattern)
    )
)
"""Every page for people that is kept by hand or generated."""

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `prose` is its text without code blocks."""

    path: Path
    text: str

    @property
    def prose(self) -> str:
        return _FENCE.sub("", self.text)

    @property
    def anchors(self) -> set[str]:
        """What `#…` may name, made as GitHub makes it."""
        titles = (match["title"].lower() for match in _HEADING.finditer(self.prose))
        return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}

    @property
    def links(self) -> list[str]:
        """Targets of links that stay inside the repository."""
        return [match["target"] for match in _LINK.finditer(self.prose) if "://" not in match["target"]]

    def blocks(self, language: str) -> list[str]:
        """The code blocks of one language, in order."""
        return [match["text"] for match in _FENCE.finditer(self.text) if match["language"] == language]

    def files(self) -> dict[str, str]:
        """The Python blocks that begin with their own name, as `# drift.py`."""
        named = ((re.match(r"# (\w+\.py)\n", block), block) for block in self.blocks("python"))
        return {match[1]: block for match, block in named if match}

    def table(self, *head: str) -> list[tuple[str, ...]]:
        """The rows of the first table with this head. Raises LookupError when there is none."""
        lines = self.prose.splitlines()
        wanted = "| " + " | ".join(head) + " |"
        if wanted not in lines:
            raise LookupError(f"{self.path.name} has no table {wanted}")
        rows = []
        for line in lines[lines.index(wanted) + 2 :]:
            if not line.startswith("|"):
                break
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append(tuple(cell.strip() for cell in cells))
        return rows


def read_page(name: str) -> Page:
    """The page of a path below the repository."""
    return Page(REPOSITORY / name, (REPOSITORY / name).read_text("utf-8"))


def run_tests_of(page: Page, directory: Path) -> str:
    """Write the page's plugin and its test to `directory`, run pytest there as a reader would; what it printed."""
    for name, text in page.files().items():
        (directory / name).write_text(text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"{page.path.name}: its own test fails\n{done.stdout}{done.stderr}")
    return done.stdout
