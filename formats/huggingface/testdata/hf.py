"""Makes the golden files with Hugging Face's tokenizers and SentencePiece, and
checks what package huggingface writes with the same libraries.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 safetensors==0.8.0 numpy
    python hf.py make .        # bpe.json, spm.json, ids.json from tok512.model
    python hf.py check DIR     # a directory that the test wrote (-keep DIR)

tok512.model is the tokenizer of karpathy/tinyllamas, stories260K (MIT license).
"""

import json
import sys
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "Once upon a time, there was a little girl named Lily.",
    "", " ", "  two  spaces  ", "one", " one", "line\n\nbreaks\r\n  and\ttabs",
    "I've SHE'LL 12345 3.14", "naïve café Ünïcödé", "🦙🚀 emoji", "中文字符", "a\u2581b", "zzzzzzzz",
]
CORPUS = ["Once upon a time there was a little girl named Lily. She loved to play in the park with her friends.",
          "I've got 12345 apples, you'll get 42; they're red, aren't they? Hello, hello, HELLO!",
          "One day the little dog ran to the big tree and saw a bird. \"Look!\" said the dog.\n\n  The end.\n"] * 3
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens(["<|begin|>", "<|end|>"])
    t.add_tokens([AddedToken("<user>", normalized=False)])
    b = t.token_to_id("<|begin|>")
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", b)])])
    return t


def llama2(sp):
    pieces = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    plain = [i for i in range(len(pieces)) if not (sp.is_byte(i) or sp.is_control(i) or sp.is_unknown(i))]
    merges = []
    for i in sorted(plain, key=sp.get_score, reverse=True):
        p = pieces[i]
        merges += [(p[:c], p[c:]) for c in range(1, len(p)) if p[:c] in vocab and p[c:] in vocab]
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def make(out):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(out / "tok512.model"))
    bpe, spm = byte_level(), llama2(sp)
    bpe.save(str(out / "bpe.json"), pretty=False)
    spm.save(str(out / "spm.json"), pretty=False)
    rows = []
    for text in TEXTS:
        ids = spm.encode(text, add_special_tokens=False).ids
        if text == text.strip(" ") and "  " not in text:  # this model removes what else there is of spaces
            assert ids == sp.encode(text), (text, ids, sp.encode(text))
        rows.append({"text": text, "spm": ids, "bpe": bpe.encode(text, add_special_tokens=False).ids,
                     "pieces": [p for p, _ in bpe.pre_tokenizer.pre_tokenize_str(text)]})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (out / "ids.json").write_text("[\n" + lines + "\n]\n", encoding="utf-8")


def check(out):
    from safetensors import safe_open
    golden = json.loads((Path(__file__).parent / "ids.json").read_text(encoding="utf-8"))
    for kind in "bpe", "spm":
        t = Tokenizer.from_file(str(out / kind / "tokenizer.json"))
        for row in golden:
            got = t.encode(row["text"], add_special_tokens=False).ids
            assert got == row[kind], (kind, row["text"], got, row[kind])
            assert t.decode(got) == row["text"].replace("\u2581", " " if kind == "spm" else "\u2581"), row["text"]
        begin = t.encode("one").ids[0]
        assert t.id_to_token(begin) == {"bpe": "<|begin|>", "spm": "<s>"}[kind]
        print(kind, len(golden), "texts agree,", t.get_vocab_size(), "tokens, begins with", begin)
        json.loads((out / kind / "config.json").read_text())
        index = out / kind / "model.safetensors.index.json"
        if index.exists():
            where = json.loads(index.read_text())["weight_map"]
        else:
            with safe_open(out / kind / "model.safetensors", "np") as f:
                where = dict.fromkeys(f.keys(), "model.safetensors")
        for name, file in sorted(where.items()):
            with safe_open(out / kind / file, "np") as f:
                s = f.get_slice(name)
                print(" ", file, name, s.get_dtype(), s.get_shape(), f.metadata())


{"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
