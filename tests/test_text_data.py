"""Lines of text to codes and back, and what is refused."""

import json
import unicodedata

import pytest
import torch

from reparam.data import split
from reparam.data.codec import codec_of
from reparam.data.text import TextCodec, _letters, from_lines, read_text
from reparam.errors import BadInputError

LINES = ["To be, or not to be", "naïve café", "日本語 ok", "tab\there", "  spaces  ", "a"]


def write(tmp_path, raw, name="lines.txt"):
    path = tmp_path / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


@pytest.mark.parametrize("options", [{}, {"tokens": "bpe", "vocabulary": 300}], ids=["characters", "bpe"])
def test_lines_survive_the_way_to_codes_and_back(tmp_path, options):
    data = read_text(write(tmp_path, "\n".join(LINES)), **options)
    assert (data.x.dtype, data.values, data.name, len(data)) == (torch.int64, "tokens", "lines", len(LINES))
    assert data.levels == len(data.codec.vocabulary) >= data.x.max()
    assert (data.x[:, -1] == 0).all()  # each has room for its end
    assert (data.x[:, -2] != 0).any()  # and there is no more room than that
    assert data.codec.decode(data.x) == LINES


@pytest.mark.parametrize("options", [{}, {"tokens": "bpe", "vocabulary": 280}], ids=["characters", "bpe"])
def test_the_facts_of_a_codec_are_json_and_make_it_again(options):
    codec = from_lines(LINES, **options).codec
    again = codec_of(json.loads(json.dumps(codec.facts())))
    assert again == codec
    assert torch.equal(again.encode(LINES), codec.encode(LINES))
    assert again.decode(codec.encode(LINES)) == LINES


def test_a_bom_crlf_and_blank_lines_are_fine(tmp_path):
    raw = b"\xef\xbb\xbfone\r\n\r\n   \r\ntwo\n\nthree"
    data = read_text(write(tmp_path, raw))
    assert data.codec.decode(data.x) == ["one", "two", "three"]
    assert data.levels == len(set("onetwothree"))


def test_the_same_texts_give_the_same_pieces():
    codecs = [from_lines(LINES * 3, tokens="bpe", vocabulary=300).codec for _ in range(2)]
    assert codecs[0] == codecs[1]
    assert 256 < len(codecs[0].vocabulary) <= 300


@pytest.mark.parametrize("text", LINES)
def test_pieces_count_the_characters_that_begin_in_them(text):
    codec = from_lines(LINES, tokens="bpe", vocabulary=290).codec
    codes = codec.encode([text])[0]
    count = sum(codec.characters[code] for code in codes[codes > 0])
    assert count == len(text)
    assert codec.characters[0] == 1
    assert from_lines(LINES).codec.characters == (1,) * (len(from_lines(LINES).codec.vocabulary) + 1)


def test_the_letters_of_bytes_are_those_of_the_library():
    from tokenizers import pre_tokenizers

    letters = _letters()
    assert sorted(letters) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(letters.values()) == list(range(256))
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("é\u3042 ~")[0][0]
    assert bytes(letters[letter] for letter in spelled) == "é\u3042 ~".encode()


def test_other_data_are_encoded_with_the_codec_of_the_run(tmp_path):
    codec = from_lines(["abc", "cab"]).codec
    data = read_text(write(tmp_path, "b\nca\n"), codec=codec)
    assert data.x.tolist() == [[2, 0, 0, 0], [3, 1, 0, 0]]
    with pytest.raises(BadInputError, match=r"line 3 has the character 'é' \(U\+00E9\), which is none of the 3 characters"):
        read_text(write(tmp_path, "b\n\ncaé\n"), codec=codec)
    with pytest.raises(BadInputError, match=r"line 2 has 5 characters, and at most 4 are taken"):
        read_text(write(tmp_path, "b\ncabac\n"), codec=codec)
    cut = read_text(write(tmp_path, "b\ncabac\n"), codec=codec, long_lines="cut")
    assert codec.decode(cut.x) == ["b", "cab"]


def test_bytes_unknown_in_training_are_known_to_pieces():
    codec = from_lines(["only ascii here"] * 3, tokens="bpe", vocabulary=270, longest=60).codec
    codec = TextCodec(60, codec.vocabulary, codec.merges)
    assert codec.decode(codec.encode(["日本 ☃"])) == ["日本 ☃"]


def test_a_text_of_broken_bytes_is_shown_with_a_mark():
    codec = from_lines(["é"], tokens="bpe", vocabulary=256).codec
    assert codec.decode(codec.encode(["é"])[:, :1]) == ["\ufffd"]
    newline = codec.vocabulary.index("\u010a") + 1  # a model may draw that byte, and a text is one line
    assert codec.decode(torch.tensor([[newline, 0]])) == ["\ufffd"]


def test_an_argument_that_is_not_utf_8_is_refused():
    """Python reads such bytes of a command line as lone surrogates."""
    for tokens, message in {"bpe": r"line 2 is not UTF-8: 'b\\udcff'", "characters": r"line 2 has the character '\\udcff'"}.items():
        codec = from_lines(["ab"], tokens=tokens).codec
        with pytest.raises(BadInputError, match=message):
            codec.encode(["a", "b\udcff"])


def test_long_lines(tmp_path):
    path = write(tmp_path, "short\n" + "x" * 20 + "\n")
    with pytest.raises(BadInputError, match=r"line 2 has 20 characters, and at most 10 are taken: .*--long_lines cut"):
        read_text(path, longest=10)
    data = read_text(path, longest=10, long_lines="cut")
    assert data.codec.decode(data.x) == ["short", "x" * 10]


@pytest.mark.parametrize(
    ("raw", "options", "message"),
    [
        (b"", {}, "is no text .it looks like an empty file.: give one text a line"),
        (b"\x1f\x8b\x08rest", {}, "it looks like gzip: unpack it first"),
        (b"<html><body>", {}, "it looks like an HTML page"),
        (b"\n \r\n\t\n", {}, "nothing but blank lines"),
        (b"fine\nnot \xff fine\n", {}, r"line 2 is not UTF-8 at byte 9 \(0xff\): save it as UTF-8"),
        (b"\xef\xbb\xbffine\nnot \xff fine\n", {}, r"line 2 is not UTF-8 at byte 12 \(0xff\)"),
        ("fine\nfine".encode("utf-16"), {}, r"line 1 is not UTF-8 at byte 0 .*it looks like UTF-16"),
        ("fine\nfine".encode("utf-16-le"), {}, r"line 1 has a NUL at byte 1 .*it looks like UTF-16"),
        (b"fine\nno\0t", {}, r"line 2 has a NUL at byte 7 \(0x00\)"),
        (b"fine", {"longest": 0}, "longest is 0: give at least 1"),
        (b"fine", {"tokens": "bpe", "vocabulary": 100}, "vocabulary is 100: byte-pair encoding starts from the 256 bytes"),
        (b"fine", {"tokens": "words"}, "tokens is 'words': give characters or bpe"),
    ],
)
def test_what_is_refused(tmp_path, raw, options, message):
    with pytest.raises(BadInputError, match=message):
        read_text(write(tmp_path, raw), **options)


@pytest.mark.parametrize(
    "facts",
    [
        {"length": 1, "vocabulary": ["a"]},
        {"length": 5, "vocabulary": []},
        {"length": 5, "vocabulary": ["a", "a"]},
        {"length": 5, "vocabulary": ["a", "bc"]},
        {"length": 5, "vocabulary": ["a", 7]},
        {"length": "5", "vocabulary": ["a", "b"]},
        {"length": 5, "vocabulary": ["a", "b"], "colour": "red"},
        {"kind": ["text"]},
    ],
)
def test_facts_of_no_codec_are_refused(facts):
    with pytest.raises(BadInputError, match="a codec"):
        codec_of({"kind": "text", **facts})


def test_codes_that_are_none_are_refused():
    codec = TextCodec(4, ("a", "b"))
    assert codec.decode(torch.tensor([[1, 2, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])) == ["ab", "", "bbbb"]
    with pytest.raises(BadInputError, match="1 to 3 are not all codes of this vocabulary: 1 to 2 are"):
        codec.decode(torch.tensor([[1, 3, 0, 0]]))


def test_characters_are_code_points_in_their_order():
    decomposed = unicodedata.normalize("NFD", "é")
    data = from_lines([decomposed, "é", "e"])
    assert data.codec.vocabulary == tuple(sorted({*decomposed, "é"}))  # nothing is normalised behind the user's back
    assert data.codec.decode(data.x) == [decomposed, "é", "e"]


def test_parts_share_the_codec():
    data = from_lines([f"line {i}" for i in range(20)])
    splits = split(data, seed=0)
    assert splits.test.codec is splits.train.codec is data.codec
    texts = [text for part in (splits.train, splits.validation, splits.test) for text in data.codec.decode(part.x)]
    assert sorted(texts) == sorted(f"line {i}" for i in range(20))


def test_the_digest_covers_the_codec():
    one, other = from_lines(["ab", "b"]), from_lines(["xy", "y"])
    assert torch.equal(one.x, other.x)
    assert one.digest != other.digest
    assert one.digest == from_lines(["ab", "b"]).digest


def test_what_to_do_with_a_long_line_depends_on_the_codec():
    with pytest.raises(BadInputError, match="at most 3 are taken: shorten it, cut long lines"):
        from_lines(["abcd"], longest=3)
    codec = from_lines(["ab"]).codec
    assert codec.decode(codec.encode(["aba"])) == ["aba"]  # as a model may write it
    with pytest.raises(BadInputError, match=r"at most 3 are taken: shorten it$"):
        from_lines(["abab"], codec=codec)
    with pytest.raises(BadInputError, match="long_lines is 'wrap': give fail or cut"):
        from_lines(["ab"], long_lines="wrap")
