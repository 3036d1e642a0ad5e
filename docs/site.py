"""MkDocs hook: files outside docs/ that pages link to become part of the site, below repository/.

So a link such as ../config.yaml works on the site as it does in the checkout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def _uri(path: Path) -> str:
    """Where a file of the checkout is in the site's sources."""
    inside = path.is_relative_to(DOCS)
    return (path.relative_to(DOCS) if inside else Path("repository") / path.relative_to(ROOT)).as_posix()


def _targets(page: Path, markdown: str) -> dict[str, Path]:
    """Relative links of a page, as written, with the file of the checkout that each leads to."""
    found = {target: Path(os.path.normpath(page.parent / target)) for _, target, _ in _LINK.findall(markdown)}
    return {target: path for target, path in found.items() if path.is_file() and path.is_relative_to(ROOT)}


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside docs/, and what those pages link to."""
    waiting = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for path in _targets(page, page.read_text("utf-8")).values():
            uri = _uri(path)
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
                if path.suffix == ".md":
                    waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as the site's sources lie."""
    source = Path(page.file.abs_src_path)
    targets = _targets(source, markdown)
    folder = os.path.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = targets.get(link[2])
        return link[0] if path is None else link[1] + os.path.relpath(_uri(path), folder or ".") + link[3]

    return _LINK.sub(moved, markdown)
