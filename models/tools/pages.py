"""Parts of pages that programs write: what stands between two comments in a Markdown file."""


def replace_part(path, name, lines):
    """Put `lines` between `<!-- NAME -->` and `<!-- /NAME -->` in the page."""
    page = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{path}: expected one part between {begin.strip()} and {end}")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    text = "\n".join(lines)
    path.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
