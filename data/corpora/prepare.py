#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a corpus to train on: documents from Debian packages or from your own files, cleaned, split, tokenized.

  prepare.py docs --out /data/docs                      packages of sources.toml, SentencePiece BPE of 8192 pieces
  prepare.py notes.txt novels/ --out /data/mine --tokenizer byte
  prepare.py code --out /data/code --tokenizer /data/docs/tokenizer.model

The result is a folder with shards of token ids (.npy), the tokenizer, the documents' offsets, and NAME.toml, which
`narrowgauge train --data` takes. It records every package's version and SHA-256 and every shard's SHA-256. The same
input gives the same bytes. A document is held out or not by the hash of its text, before it is tokenized."""

import argparse
import array
import hashlib
import io
import itertools
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib

from package_text import KINDS, InputError, Repeats, package_documents, user_documents, user_files

HERE = os.path.dirname(os.path.abspath(__file__))
SHARD_TOKENS = 16 * 1024 * 1024
BATCH_BYTES = 4 * 1024 * 1024
END_OF_TEXT_BYTE = 0  # ends a document in byte tokens: cleaned text holds no NUL


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- documents


def plan_sources(names, table):
    """The sources of named corpora, `include` resolved, each package once."""
    plan = []
    for name in names:
        for source in plan_sources(table[name].get("include", []), table) + table[name].get("source", []):
            if source["as"] not in KINDS:
                raise InputError(f"sources.toml: {source['package']}: as = '{source['as']}'; valid: {', '.join(KINDS)}")
            if source not in plan:
                plan.append(source)
    return plan


def fetch(package, folder):
    """The package's archive, through the ordinary package client unless it lies in the folder already."""

    def found():
        return sorted(f for f in os.listdir(folder) if f.startswith(package + "_") and f.endswith(".deb"))

    if not found():
        done = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0 or not found():
            raise InputError(f"package {package} could not be fetched: {done.stderr.strip().splitlines()[-1:]}; "
                             "--packages DIR takes .deb files that you have")
    return os.path.join(folder, found()[-1])


class Spool:
    """Documents on disk, held out or not by the first 64 bits of their SHA-256."""

    def __init__(self, folder, share):
        self.paths = {part: os.path.join(folder, part + ".spool") for part in ("train", "heldout")}
        self.files = {part: open(path, "wb") for part, path in self.paths.items()}
        self.bytes = {"train": 0, "heldout": 0}
        self.documents = {"train": 0, "heldout": 0}
        self.limit = int(share * 2**64)

    def add(self, text):
        data = text.encode()
        part = "heldout" if int.from_bytes(hashlib.sha256(data).digest()[:8], "big") < self.limit else "train"
        self.files[part].write(len(data).to_bytes(8, "little") + data)
        self.bytes[part] += len(data)
        self.documents[part] += 1

    def close(self):
        for file in self.files.values():
            file.close()

    def read(self, part):
        with open(self.paths[part], "rb") as file:
            while head := file.read(8):
                yield file.read(int.from_bytes(head, "little"))


def collect(options, spool, say):
    """Fills the spool; the description of what it holds, for the manifest."""
    with open(os.path.join(HERE, "sources.toml"), "rb") as file:
        table = tomllib.load(file)
    named = [word for word in options.input if word in table]
    files = [word for word in options.input if word not in table]
    if not files and not named:
        raise InputError(f"nothing to read; name a corpus ({', '.join(table)}) or files")
    repeats, origin = Repeats(), []

    def entry(kind, name, extra, documents):
        before, count, size = repeats.dropped, 0, 0
        for _, text in documents:
            spool.add(text)
            count += 1
            size += len(text.encode())
        if count == 0 and kind == "package":
            raise InputError(f"sources.toml: {name}: no text found in it; it has changed, or 'files' names none of its own")
        origin.append({kind: name, **extra, "documents": count, "bytes": size, "repeats": repeats.dropped - before})
        if kind == "package" or len(origin) % 100 == 0:
            say(f"{name}: {count} documents, {size / 1e6:.1f} MB")

    with tempfile.TemporaryDirectory(dir=options.work) as fetched:
        for source in plan_sources(named, table):
            archive = fetch(source["package"], options.packages or fetched)
            version = subprocess.run(["dpkg-deb", "--field", archive, "Version"], capture_output=True, text=True,
                                     check=True).stdout.strip()
            entry("package", source["package"], {"version": version, "sha256": sha256_of(archive)},
                  package_documents(archive, source, repeats))
            if not options.packages:
                os.remove(archive)
    for path in user_files(files):
        with open(path, "rb") as file:
            data = file.read()
        entry("file", os.path.basename(path), {"sha256": hashlib.sha256(data).hexdigest()},
              user_documents(path, data, repeats))
    if not origin:
        raise InputError(f"{' '.join(files)}: no text files found")
    return origin


# ---- tokens


def sentencepiece():
    try:
        import sentencepiece as module
    except ImportError:
        raise InputError("SentencePiece is not installed: apt-get install python3-sentencepiece (run this script with "
                         "/usr/bin/python3) or pip install sentencepiece; or take --tokenizer byte") from None
    return module


def train_tokenizer(spool, pieces, sample_bytes, jobs, path):
    """A BPE with byte fallback on training documents, every n-th so that about sample_bytes are read."""
    module = sentencepiece()
    stride = max(1, -(-spool.bytes["train"] // sample_bytes))

    def lines():
        for number, data in enumerate(spool.read("train")):
            if number % stride == 0:
                for line in data.decode().split("\n"):
                    if line:
                        yield line[:4096]

    made = io.BytesIO()  # a file's name would be kept in the model
    try:
        module.SentencePieceTrainer.train(
            sentence_iterator=lines(), model_writer=made, vocab_size=pieces, model_type="bpe",
            byte_fallback=True, normalization_rule_name="identity", split_digits=True, remove_extra_whitespaces=False,
            add_dummy_prefix=False, character_coverage=0.9995, max_sentence_length=16384, num_threads=jobs,
            unk_id=0, bos_id=-1, eos_id=1, pad_id=-1, minloglevel=2)
    except RuntimeError as error:
        raise InputError(f"--vocabulary {pieces} does not fit this text: {str(error).splitlines()[-1]}") from None
    with open(path, "wb") as file:
        file.write(made.getvalue())


_processor = None


def start_worker(model):
    global _processor
    if model:
        _processor = sentencepiece().SentencePieceProcessor(model_file=model)


def encode(batch):
    """Token ids of each document, each with its end mark."""
    if _processor is None:
        return [array.array("I", list(data) + [END_OF_TEXT_BYTE]) for data in batch]
    end = _processor.eos_id()
    return [array.array("I", ids + [end]) for ids in _processor.encode([data.decode() for data in batch])]


def batches(documents):
    batch, size = [], 0
    for data in documents:
        batch.append(data)
        size += len(data)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_npy(path, typecode, values):
    """A one-dimensional little-endian array in NumPy's format, version 1.0."""
    name = {"H": "<u2", "I": "<u4", "Q": "<u8"}[typecode]
    head = f"{{'descr': '{name}', 'fortran_order': False, 'shape': ({len(values)},), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    values = array.array(typecode, values)
    if sys.byteorder == "big":
        values.byteswap()
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + values.tobytes())


def tokenize(spool, part, model, typecode, options, folder, first):
    """Writes the shards of a part; (shards, tokens, offsets of its documents from `first`)."""
    shards, pending, tokens, offsets = [], array.array("I"), 0, array.array("Q")

    def flush(count):
        name = f"{part}_{len(shards):05d}.npy"
        path = os.path.join(folder, name)
        write_npy(path, typecode, pending[:count])
        shards.append({"file": name, "sha256": sha256_of(path)})
        del pending[:count]

    with multiprocessing.Pool(options.jobs, start_worker, (model,)) as pool:
        waiting = batches(spool.read(part))
        # A few batches at a time: imap would read all documents ahead.
        while group := list(itertools.islice(waiting, 2 * options.jobs)):
            for ids in itertools.chain.from_iterable(pool.map(encode, group, chunksize=1)):
                offsets.append(first + tokens)
                tokens += len(ids)
                pending.extend(ids)
            while len(pending) >= options.shard_tokens:
                flush(options.shard_tokens)
    if pending:
        flush(len(pending))
    return shards, tokens, offsets


def toml_value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def toml_array(name, rows):
    return f"{name} = [\n" + "".join(f"  {toml_value(row)},\n" for row in rows) + "]\n"


# ---- the whole


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="+", help="names in sources.toml (docs, code, mix), or files and folders "
                                                 "(.txt .md .rst .html .jsonl, also .gz and .xz)")
    parser.add_argument("--out", required=True, help="folder to make; its name is the corpus's name")
    parser.add_argument("--tokenizer", default="train", help="train (default), byte, or a SentencePiece .model")
    parser.add_argument("--vocabulary", type=int, default=8192, help="pieces of a trained tokenizer (default 8192)")
    parser.add_argument("--heldout", type=float, default=0.02, help="share of the documents held out (default 0.02)")
    parser.add_argument("--sample-mb", type=int, default=100, help="text that the tokenizer is trained on (default 100)")
    parser.add_argument("--packages", help="folder of .deb files: taken from there, fetched into it if missing")
    parser.add_argument("--shard-tokens", type=int, default=SHARD_TOKENS, help="tokens a shard (default 16 Mi)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    if not 0 < options.heldout < 1:
        raise InputError(f"--heldout {options.heldout}: a share between 0 and 1")
    if options.shard_tokens < 1024 or options.jobs < 1 or options.sample_mb < 1 or options.vocabulary < 300:
        raise InputError("--shard-tokens is at least 1024, --vocabulary 300, --jobs and --sample-mb 1")
    if options.tokenizer not in ("train", "byte") and not os.path.isfile(options.tokenizer):
        raise InputError(f"--tokenizer {options.tokenizer}: there is no such file; valid: train, byte, a .model file")
    if options.packages and not os.path.isdir(options.packages):
        raise InputError(f"--packages {options.packages}: there is no such folder")
    if os.path.exists(options.out):
        raise InputError(f"--out {options.out}: exists already")
    return options


def prepare(options, folder, say):
    name = os.path.basename(os.path.normpath(options.out))
    spool = Spool(options.work, options.heldout)
    origin = collect(options, spool, say)
    spool.close()
    for part in ("train", "heldout"):
        if spool.documents[part] == 0:
            raise InputError(f"{sum(spool.documents.values())} documents with --heldout {options.heldout} leave none to "
                             f"{'train on' if part == 'train' else 'hold out'}: give more documents or another share")
    model = None
    tokenizer = {"kind": "byte", "end_of_document": END_OF_TEXT_BYTE}
    vocabulary = 256
    if options.tokenizer != "byte":
        model = os.path.join(folder, "tokenizer.model")
        if options.tokenizer == "train":
            say(f"tokenizer: {options.vocabulary} pieces")
            train_tokenizer(spool, options.vocabulary, options.sample_mb * 1000000, options.jobs, model)
        else:
            shutil.copyfile(options.tokenizer, model)
        try:
            processor = sentencepiece().SentencePieceProcessor(model_file=model)
        except (RuntimeError, OSError):
            raise InputError(f"--tokenizer {options.tokenizer}: not a SentencePiece model") from None
        vocabulary = processor.vocab_size()
        if processor.eos_id() < 0:
            raise InputError(f"--tokenizer {options.tokenizer}: has no end-of-sentence piece to end documents with")
        tokenizer = {"kind": "sentencepiece", "file": "tokenizer.model", "sha256": sha256_of(model),
                     "library": sentencepiece().__version__, "end_of_document": processor.eos_id()}
    typecode = "H" if vocabulary <= 65536 else "I"
    shards, train, offsets = tokenize(spool, "train", model, typecode, options, folder, 0)
    more, heldout, more_offsets = tokenize(spool, "heldout", model, typecode, options, folder, train)
    write_npy(os.path.join(folder, "documents.npy"), "Q", offsets + more_offsets)
    with open(os.path.join(folder, name + ".toml"), "w", encoding="utf-8") as file:
        file.write(
            f"# Made by data/corpora/prepare.py: {train + heldout} tokens of {sum(spool.documents.values())} documents. "
            "documents.npy holds the position\n# of each document's first token. Loss in nats per byte = loss per token * "
            "tokens / text_bytes of the part.\n"
            f"name = {toml_value(name)}\nformat = \"npy\"\nvocabulary = {vocabulary}\ntokens = {train + heldout}\n"
            f"text_bytes = {toml_value(spool.bytes)}\ntokenizer = {toml_value(tokenizer)}\n"
            f"part = [{{ begin = 0, heldout = {train}, end = {train + heldout} }}]\n"
            + toml_array("shard", shards + more) + toml_array("origin", origin))
    say(f"{options.out}/{name}.toml: {train} tokens to train on, {heldout} held out, vocabulary {vocabulary}, "
        f"{sum(spool.bytes.values()) / (train + heldout):.2f} bytes per token")


def main(arguments):
    try:
        options = parse(arguments)
        parent = os.path.dirname(os.path.abspath(options.out))
        os.makedirs(parent, exist_ok=True)
        say = (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr, flush=True))
        # Everything is made beside its place and moved there when whole.
        with tempfile.TemporaryDirectory(dir=parent, prefix=".prepare-") as work:
            options.work = work
            folder = os.path.join(work, "result")
            os.mkdir(folder)
            prepare(options, folder, say)
            os.rename(folder, options.out)
        return 0
    except InputError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
