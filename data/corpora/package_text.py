# SPDX-License-Identifier: Apache-2.0
"""Documents out of Debian packages and out of the user's files.

Everything here is a generator of (name, text), in an order that depends on the names alone; nothing is kept in memory
but one file. Text is Unicode with \\n as line end and without NUL. Undecodable UTF-8 is read as Latin-1."""

import bz2
import fnmatch
import gzip
import hashlib
import html
import json
import lzma
import os
import re
import subprocess
import tarfile

SHORTEST_PARAGRAPH = 20
OPENERS = {".gz": gzip.decompress, ".dz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
KINDS = ("text", "html", "man", "dictionary", "glossary", "code")
USER_SUFFIXES = (".txt", ".md", ".rst", ".html", ".jsonl")


class InputError(Exception):
    """The user's input is wrong; the message says what and what is valid."""


def decode(data, name):
    """Bytes of a file as text; `name` says by its ending how it is compressed."""
    for ending, opener in OPENERS.items():
        if name.endswith(ending):
            data = opener(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def without_markup(text):
    """HTML as paragraphs: head, scripts and styles dropped, block elements end a paragraph."""
    text = re.sub(r"(?is)<(script|style|head|svg|math)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    text = re.sub(r"(?i)</?(p|div|h[1-6]|li|tr|table|ul|ol|dl|dt|dd|pre|section|article|blockquote)\b[^>]*>", "\n\n", text)
    text = html.unescape(re.sub(r"(?i)<br\s*/?>", "\n", text))
    text = re.sub(r"<[^>]*>", "", text).replace("\u00a0", " ")
    return re.sub(r"\n[ \t]*(\n[ \t]*)+", "\n\n", text).strip() + "\n"


def without_roff(text):
    """A manual page as paragraphs: requests dropped, the words of macros kept, escapes resolved."""
    lines = []
    for line in text.split("\n"):
        if line.startswith((".", "'")):
            name, _, words = line[1:].strip().partition(" ")
            if name.startswith("\\\"") or name in ("TH", "de", "ie", "el", "if", "nr", "ds", "so", "in", "ta", "ad"):
                continue
            if name in ("PP", "P", "LP", "TP", "IP", "SH", "SS", "sp", "HP"):
                lines.append("")
            line = words.replace('"', "")
            if not line:
                continue
        line = re.sub(r"\\f(\[[^]]*\]|\(..|.)|\\[&/,|^%:]|\\s[-+]?\d+|\\\"", "", line)
        line = re.sub(r"\\\((?:co|bu|em|en|hy|mi|aq|dq|lq|rq|oq|cq|ha|ti|rs|tm)|\\\[[^]]*\]", " ", line)
        lines.append(line.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def entries(kind, text):
    """Entries of a dictd dictionary: a headword stands at the line's begin, in a `dictionary` after an empty line."""
    headword = r"\n{2,}(?=\S)" if kind == "dictionary" else r"\n+(?=\S)"
    return [entry.strip("\n") + "\n" for entry in re.split(headword, text) if entry.strip()]


class Repeats:
    """What was seen before, by 64-bit hashes."""

    def __init__(self):
        self.seen = set()
        self.dropped = 0

    def new(self, text):
        mark = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if mark in self.seen:
            self.dropped += 1
            return False
        self.seen.add(mark)
        return True

    def paragraphs(self, text):
        """The text without paragraphs that are short or were seen before."""
        kept = [p for p in re.split(r"\n[ \t]*\n", text) if len(p.strip()) >= SHORTEST_PARAGRAPH and self.new(p.strip())]
        return "\n\n".join(p.strip("\n") for p in kept) + "\n" if kept else ""


def documents_of(kind, name, text, repeats):
    """The documents of one file."""
    if kind == "code":
        if text.strip() and repeats.new(text):
            yield name, text
        return
    if kind == "html":
        text = without_markup(text)
    elif kind == "man":
        text = without_roff(text)
    several = kind in ("dictionary", "glossary")
    for number, part in enumerate(entries(kind, text) if several else [text]):
        part = repeats.paragraphs(part)
        if part:
            yield (f"{name}#{number}" if several else name), part


def members(tar, patterns):
    """(path, bytes) of the plain files that match, in the archive's order; links are not followed."""
    for member in tar:
        path = member.name.removeprefix("./")
        if member.isfile() and any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            stream = tar.extractfile(member)
            yield path, stream.read() if stream else b""


def package_documents(archive, source, repeats):
    """Documents of a .deb as an entry of sources.toml describes them."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            if "inner" not in source:
                for path, data in members(tar, source["files"]):
                    for name, text in documents_of(source["as"], path, decode(data, path), repeats):
                        yield f"{source['package']}:{name}", text
            else:
                for member in tar:
                    if member.isfile() and fnmatch.fnmatchcase(member.name, source["inner"]):
                        with tarfile.open(fileobj=tar.extractfile(member), mode="r|*") as inner:
                            for path, data in members(inner, source["files"]):
                                for name, text in documents_of(source["as"], path, decode(data, path), repeats):
                                    yield f"{source['package']}:{name}", text


def user_files(paths):
    """The files that paths name: folders are searched for USER_SUFFIXES, in sorted order."""
    for path in paths:
        if os.path.isdir(path):
            for folder, folders, names in os.walk(path):
                folders.sort()
                for name in sorted(names):
                    if name.removesuffix(".gz").removesuffix(".xz").endswith(USER_SUFFIXES):
                        yield os.path.join(folder, name)
        elif os.path.isfile(path):
            yield path
        else:
            raise InputError(f"{path}: there is no such file or folder")


def user_documents(path, data, repeats):
    """Documents of one of the user's files: of .jsonl the key 'text' of each line, otherwise the whole file."""
    text = decode(data, path)
    plain = path.removesuffix(".gz").removesuffix(".xz")
    if not plain.endswith(".jsonl"):
        yield from documents_of("html" if plain.endswith(".html") else "text", path, text, repeats)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError):
            value = None
        if not isinstance(value, str):
            raise InputError(f"{path}:{number}: not a JSON object with a string 'text'")
        yield from documents_of("text", f"{path}:{number}", value.replace("\0", ""), repeats)
