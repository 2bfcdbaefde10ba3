# SPDX-License-Identifier: Apache-2.0
"""Claim: data/corpora/prepare.py makes the same bytes from the same documents, loses none of their text, holds documents
out by their content, and what it makes can be trained on; bad input is one message and exit code 2, with nothing left
behind. Alone: ctest --test-dir build/release -R cli_prepare_corpus"""

import array
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest

PROGRAM, SOURCE = sys.argv.pop(1), sys.argv.pop(1)
PREPARE = os.path.join(SOURCE, "data/corpora/prepare.py")
sys.path.insert(0, os.path.dirname(PREPARE))
import package_text  # noqa: E402

try:
    import sentencepiece
except ImportError:
    sentencepiece = None


def prepare(*words):
    return subprocess.run([sys.executable, PREPARE, *words, "--jobs", "2"], capture_output=True, text=True)


def ids_of(folder, manifest):
    ids = array.array("H")
    for shard in manifest["shard"]:
        with open(os.path.join(folder, shard["file"]), "rb") as file:
            data = file.read()
        assert data[:8] == b"\x93NUMPY\x01\x00" and b"'<u2'" in data[:128]
        ids.frombytes(data[10 + int.from_bytes(data[8:10], "little"):])
    return ids


def tree(folder):
    result = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            result[name] = hashlib.sha256(file.read()).hexdigest()
    return result


class Prepare(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = self.temporary.name
        # Forty documents: parts of a novel, one of them repeated, one compressed, two as lines of JSON.
        with open(os.path.join(SOURCE, "data/corpora/austen.txt"), encoding="utf-8") as file:
            text = file.read()
        self.documents = [text[i * 5000:(i + 1) * 5000] for i in range(40)]
        os.mkdir(self.path("texts"))
        for number, document in enumerate(self.documents[:37]):
            with open(self.path("texts", f"{number:02d}.txt"), "w", encoding="utf-8") as file:
                file.write(document)
        with open(self.path("texts", "37.txt"), "w", encoding="utf-8") as file:
            file.write(self.documents[3])
        with gzip.open(self.path("texts", "38.txt.gz"), "wt", encoding="utf-8") as file:
            file.write(self.documents[37])
        with open(self.path("texts", "39.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": document}) + "\n" for document in self.documents[38:])

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def make(self, name, *words):
        done = prepare(self.path("texts"), "--out", self.path(name), "--heldout", "0.2", *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.path(name, name + ".toml"), "rb") as file:
            return tomllib.load(file)

    def decoded(self, name, manifest, decode, end):
        """Texts of the documents, those to train on first."""
        ids, documents = ids_of(self.path(name), manifest), []
        self.assertEqual(len(ids), manifest["tokens"])
        begin = 0
        while begin < len(ids):
            stop = ids.index(end, begin)
            documents.append(decode(ids[begin:stop].tolist()))
            begin = stop + 1
        return documents

    def expected(self):
        """What must come out, from the cleaning rule read off its description."""
        seen, kept = set(), []
        for document in self.documents:
            paragraphs = []
            for paragraph in package_text.re.split(r"\n[ \t]*\n", document):
                if len(paragraph.strip()) >= 20 and paragraph.strip() not in seen:
                    seen.add(paragraph.strip())
                    paragraphs.append(paragraph.strip("\n"))
            kept.append("\n\n".join(paragraphs) + "\n")
        return kept

    def check(self, name, manifest, decode, end):
        documents = self.decoded(name, manifest, decode, end)
        self.assertEqual(sorted(documents), sorted(self.expected()))
        cut = manifest["part"][0]["heldout"]
        train = ids_of(self.path(name), manifest)[:cut].count(end)
        self.assertTrue(0 < train < len(documents))
        self.assertEqual(manifest["text_bytes"]["train"], sum(len(d.encode()) for d in documents[:train]))
        self.assertEqual(manifest["text_bytes"]["heldout"], sum(len(d.encode()) for d in documents[train:]))
        return set(documents[train:])

    def train(self, name, vocabulary):
        done = subprocess.run(
            [PROGRAM, "train", "--model", os.path.join(SOURCE, "studies/models/tiny.toml"), "--recipe",
             os.path.join(SOURCE, "studies/recipes/bf16.toml"), "--data", self.path(name, name + ".toml"), "--steps", "1",
             "--set", f"model.vocabulary={vocabulary}", "--set", "batch=2", "--set", "sequence_length=32", "--quiet",
             "--out", self.path(name + ".h5")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_bytes(self):
        manifest = self.make("one", "--tokenizer", "byte", "--shard-tokens", "50000")
        self.assertGreaterEqual(len(manifest["shard"]), 4)
        heldout = self.check("one", manifest, lambda ids: bytes(ids).decode(), 0)
        self.train("one", 256)
        # The same documents under other names and in other shards: the same are held out.
        os.rename(self.path("texts", "00.txt"), self.path("texts", "99.txt"))
        manifest = self.make("two", "--tokenizer", "byte")
        self.assertEqual(self.check("two", manifest, lambda ids: bytes(ids).decode(), 0), heldout)

    def test_same_bytes_again(self):
        self.make("one", "--tokenizer", "byte")
        os.rename(self.path("one"), self.path("first"))
        self.make("one", "--tokenizer", "byte")
        self.assertEqual(tree(self.path("one")), tree(self.path("first")))

    @unittest.skipIf(sentencepiece is None, "SentencePiece is not installed")
    def test_sentencepiece(self):
        manifest = self.make("one", "--vocabulary", "600")
        processor = sentencepiece.SentencePieceProcessor(model_file=self.path("one", "tokenizer.model"))
        self.check("one", manifest, processor.decode, processor.eos_id())
        self.assertEqual(manifest["vocabulary"], 600)
        self.train("one", 600)
        os.rename(self.path("one"), self.path("first"))
        self.make("one", "--vocabulary", "600")
        self.assertEqual(tree(self.path("one")), tree(self.path("first")))
        self.make("again", "--tokenizer", self.path("one", "tokenizer.model"))
        self.assertEqual(tree(self.path("again"))["train_00000.npy"], tree(self.path("one"))["train_00000.npy"])

    def test_mistakes(self):
        with open(self.path("bad.jsonl"), "w", encoding="utf-8") as file:
            file.write('{"text": "a document of more than twenty letters"}\n{"txt": 1}\n')
        for words, says in (
            ([self.path("missing")], "there is no such file"),
            (["docs", "--packages", self.path("missing")], "there is no such folder"),
            ([self.path("bad.jsonl")], "bad.jsonl:2"),
            ([self.path("texts"), "--heldout", "2"], "between 0 and 1"),
            ([self.path("texts", "00.txt"), "--tokenizer", "byte"], "leave none"),
            ([self.path("texts"), "--tokenizer", self.path("none.model")], "valid: train, byte"),
            ([self.path("texts"), "--out", self.path("texts")], "exists already"),
        ):
            before = sorted(os.listdir(self.folder))
            done = prepare("--out", self.path("out"), *words)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)
            self.assertEqual(sorted(os.listdir(self.folder)), before)


class Reading(unittest.TestCase):
    def test_package(self):
        """A .deb as dpkg-deb builds it, with an archive inside."""
        with tempfile.TemporaryDirectory() as folder:
            root = os.path.join(folder, "root")
            os.makedirs(os.path.join(root, "DEBIAN"))
            os.makedirs(os.path.join(root, "usr/src"))
            with open(os.path.join(root, "DEBIAN/control"), "w", encoding="utf-8") as file:
                file.write("Package: words\nVersion: 1.2\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: w\n")
            with tarfile.open(os.path.join(root, "usr/src/words.tar.xz"), "w:xz") as tar:
                for name, text in (("a/one.c", "int one;\n"), ("a/two.h", "int two;\n"), ("b/again.c", "int one;\n"),
                                   ("b/three.txt", "no code\n")):
                    member = tarfile.TarInfo(name)
                    member.size = len(text)
                    tar.addfile(member, io.BytesIO(text.encode()))
            archive = os.path.join(folder, "words_1.2_all.deb")
            try:
                subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, archive], check=True,
                               capture_output=True)
            except FileNotFoundError:
                self.skipTest("dpkg-deb is not installed")
            source = {"package": "words", "inner": "*.tar.xz", "files": ["*.c", "*.h"], "as": "code"}
            repeats = package_text.Repeats()
            self.assertEqual(list(package_text.package_documents(archive, source, repeats)),
                             [("words:a/one.c", "int one;\n"), ("words:a/two.h", "int two;\n")])
            self.assertEqual(repeats.dropped, 1)

    def test_markup(self):
        self.assertEqual(package_text.without_markup(
            "<html><head><title>x</title></head><body><h1>On &amp; on</h1><p>One<br>two <b>three</b>.</p>"
            "<script>no()</script></body></html>"), "On & on\n\nOne\ntwo three.\n")
        self.assertEqual(package_text.without_roff(
            '.TH A 1\n.\\" note\n.SH NAME\n.B ls\n\\- list\\fB all\\fP files\n.PP\nNext.\n'),
            "NAME\nls\n- list all files\n\nNext.\n")
        self.assertEqual(package_text.entries("dictionary", "a\n  one\n\n  more\n\nb\nc\n  two\n"),
                         ["a\n  one\n\n  more\n", "b\nc\n  two\n"])
        self.assertEqual(package_text.entries("glossary", "a\n  one\nb\n  two\n"), ["a\n  one\n", "b\n  two\n"])

    def test_latin_1_and_line_ends(self):
        self.assertEqual(package_text.decode(b"caf\xe9\r\nx\0\r", "a.txt"), "caf\u00e9\nx\n")
        self.assertEqual(package_text.decode("caf\u00e9".encode(), "a.txt"), "caf\u00e9")


if __name__ == "__main__":
    unittest.main(verbosity=2)
