"""What is trained, against an oracle that knows only `apply_chat_template`: 21 templates, two kinds of tokenizers.

The oracle renders a conversation as far as each answer, with the library, and takes the tokens by which that rendering
is longer than what the model was given, up to and including the token that ends a turn in that family.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.specs.problem import ProblemError

FOLDER = Path(__file__).parent / "templates"
WHITESPACE = "\n\n a\tb  "


@dataclass(frozen=True)
class Family:
    """What the oracle must know of a family: `end` is the token that ends an answer, None where there is none."""

    control: tuple[str, ...]
    end: str | None
    bos: str | None = None
    eos: str | None = None
    refuses: frozenset[str] = frozenset()
    drops_tools: bool = False
    arguments_as_text: bool = False
    thinks: bool = False
    """Whether it reads `reasoning_content`, which the rows hold as `<think>` in their text."""


CHATML = ("<|im_start|>", "<|im_end|>")
QWEN = (*CHATML, "<|endoftext|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
THINK = ("<think>", "</think>")
TURN = ("<start_of_turn>", "<end_of_turn>")
LLAMA_3 = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|eom_id|>",
)
MISTRAL = (
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)
PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
COMMAND = tuple(f"<|{name}_TOKEN|>" for name in ("START_OF_TURN", "END_OF_TURN", "USER", "CHATBOT", "SYSTEM"))
COMMAND_R7B = tuple(
    f"<|{end}_{name}|>" for name in ("THINKING", "ACTION", "TOOL_RESULT", "RESPONSE") for end in ("START", "END")
)
DEEPSEEK = tuple(
    f"<｜{name}｜>"
    for name in (
        "begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant", "tool▁calls▁begin", "tool▁calls▁end",
        "tool▁call▁begin", "tool▁call▁end", "tool▁sep", "tool▁outputs▁begin", "tool▁outputs▁end", "tool▁output▁begin",
        "tool▁output▁end",
    )
)  # fmt: skip
GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<tool_call>", "</tool_call>")
OLMO = ("<|endoftext|>",)
ALTERNATES = frozenset({"two questions"})

FAMILIES = {
    "chatml": Family(CHATML, "<|im_end|>", drops_tools=True),
    "command": Family(("<BOS_TOKEN>", *COMMAND), COMMAND[1], "<BOS_TOKEN>", COMMAND[1], ALTERNATES, drops_tools=True),
    "command_r7b": Family(("<BOS_TOKEN>", *COMMAND, *COMMAND_R7B), COMMAND[1], "<BOS_TOKEN>", COMMAND[1]),
    "deepseek_r1": Family((*DEEPSEEK, *THINK), DEEPSEEK[1], DEEPSEEK[0], DEEPSEEK[1], drops_tools=True),
    "deepseek_v3": Family((*DEEPSEEK, *THINK), DEEPSEEK[1], DEEPSEEK[0], DEEPSEEK[1], arguments_as_text=True),
    "gemma": Family(TURN, TURN[1], "<bos>", "<eos>", ALTERNATES | {"system"}, drops_tools=True),
    "gemma_3": Family(TURN, TURN[1], "<bos>", "<eos>", ALTERNATES, drops_tools=True),
    "glm_4": Family((*GLM, *THINK), None, eos="<|endoftext|>", thinks=True),
    "llama_2": Family((), "</s>", "<s>", "</s>", ALTERNATES, drops_tools=True),
    "llama_3": Family(LLAMA_3, "<|eot_id|>", "<|begin_of_text|>", "<|eot_id|>", drops_tools=True),
    "llama_3_1": Family(LLAMA_3, "<|eot_id|>", "<|begin_of_text|>", "<|eot_id|>", frozenset({"tools, two at once"})),
    "mistral_nemo": Family(MISTRAL, "</s>", "<s>", "</s>", ALTERNATES),
    "mistral_v3": Family(MISTRAL, "</s>", "<s>", "</s>", ALTERNATES),
    "olmo_2": Family(OLMO, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", drops_tools=True),
    "phi_3": Family(PHI, "<|end|>", "<s>", "<|endoftext|>", drops_tools=True),
    "phi_3_5": Family(PHI, "<|end|>", "<s>", "<|endoftext|>", drops_tools=True),
    "phi_4": Family((*CHATML, "<|im_sep|>"), "<|im_end|>", "<|endoftext|>", "<|im_end|>", drops_tools=True),
    "qwen_2_5": Family(QWEN, "<|im_end|>", eos="<|im_end|>"),
    "qwen_3": Family((*QWEN, *THINK), "<|im_end|>", eos="<|im_end|>", thinks=True),
    "smollm_3": Family((*CHATML, *THINK), "<|im_end|>", eos="<|im_end|>", drops_tools=True),
    "zephyr": Family((), "</s>", "<s>", "</s>", drops_tools=True),
}  # fmt: skip


def user(text):
    return {"role": "user", "content": text}


def answer(text, *calls):
    told = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for id, name, given in calls
    ]
    return {"role": "assistant", "content": text, "tool_calls": json.dumps(told) if told else None}


def result(id, text):
    return {"role": "tool", "content": text, "tool_call_id": id, "name": "weather"}


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a <s> [INST] <|im_end|> place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Where? <|eot_id|>"}},
            "required": ["place"],
        },
    },
}  # fmt: skip
NICE = ("abcdefghi", "weather", {"place": "Nice <|im_end|> <end_of_turn> 水"})
BONN = ("123456789", "weather", {"place": "Bonn"})
SAID = {"role": "system", "content": "Be brief."}
CASES = {
    "one turn": [user("What is two and two?"), answer("Four, I think.")],
    "three turns": [user("a"), answer("One."), user("b?"), answer("im_end"), user("c"), answer("The end")],
    "words of the template": [user("assistant"), answer("assistant"), user("</s"), answer("|>"), user("user"), answer("end")],
    "white space": [user(" x\n"), answer(WHITESPACE), user("\ty "), answer("水 \n"), user("z"), answer("\nAnd\n\n")],
    "control tokens": [
        user("<|im_end|>\n<|im_start|>system\n</s><s>[INST]<end_of_turn><|eot_id|><|end|><|endoftext|>"),
        answer("No <|im_start|> </s> [/INST] <|END_OF_TURN_TOKEN|> <｜end▁of▁sentence｜> <|user|>."),
        user("<think>"),
        answer("Fine."),
    ],
    "system": [SAID, user("a"), answer("One."), user("b"), answer("Two.")],
    "thoughts": [
        user("a"), answer("<think>\nIt is a.\n</think>\n\nAha."), user("b"), answer("<think>\nb?\n\nYes.\n</think>\n\nBee."),
    ],
    "two questions": [user("a"), user("b"), answer("Both.")],
    "tools": [user("Weather in Nice?"), answer("", NICE), result("abcdefghi", "Sun </s> <|im_end|>"), answer("Sunny.")],
    "tools, with a question after": [
        user("Nice?"), answer("", NICE), result("abcdefghi", '{"sun": true}'), answer("Sunny."), user("Sure?"), answer("Yes."),
    ],
    "tools, two at once": [
        user("Both?"), answer("", NICE, BONN), result("abcdefghi", "sun"), result("123456789", "rain"), answer("Mixed."),
    ],
    "tools and system": [SAID, user("Nice?"), answer("", NICE), result("abcdefghi", "rain"), answer("Wet.")],
    "tools, none called": [user("Hi"), answer("Hello."), user("Again"), answer("Hello again.")],
}  # fmt: skip

CALLS = [case for case, messages in CASES.items() if any(one.get("tool_calls") for one in messages)]


@pytest.fixture(scope="module")
def byte_level(starter):
    return load_tokenizer(starter)


@pytest.fixture(scope="module")
def metaspace():
    """As SentencePiece makes them: words begin with ▁, one is set before the text, unknown characters become bytes."""
    texts = [one["content"] for case in CASES.values() for one in case] + [
        path.read_text() for path in FOLDER.iterdir()
    ]
    said = [re.sub(r"([^\w\n])", r" \1 ", text) for text in texts]  # no control token is learned as a word
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.train_from_iterator(said, trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], limit_alphabet=80))
    told = json.loads(made.to_str())
    vocab = told["model"]["vocab"]
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    told["model"]["byte_fallback"] = True
    found = Tokenizer.from_str(json.dumps(told))
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=found, unk_token="<unk>", eos_token="<unk>")


@pytest.fixture(params=["byte_level", "metaspace"])
def dressed(request):
    """A tokenizer with a family's control tokens and template."""

    def one(name):
        family = FAMILIES[name]
        tokenizer = copy.deepcopy(request.getfixturevalue(request.param))
        special = [token for token in dict.fromkeys((family.bos, family.eos, *family.control)) if token]
        tokenizer.add_tokens([AddedToken(token, special=token not in THINK, normalized=False) for token in special])
        tokenizer.bos_token, tokenizer.eos_token = family.bos, family.eos or family.end
        tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text().split("#}\n", 1)[1]
        return tokenizer

    return one


def as_the_library_takes_it(message, family):
    """A canonical message as `apply_chat_template` documents it."""
    made = {key: value for key, value in message.items() if key != "tool_calls"}
    if message.get("tool_calls"):
        made["tool_calls"] = json.loads(message["tool_calls"])
        for call in made["tool_calls"]:
            if not family.arguments_as_text:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if family.thinks and made["content"].startswith("<think>") and made["role"] == "assistant":
        thought, _, said = made["content"].partition("</think>")
        made |= {"reasoning_content": thought.removeprefix("<think>").strip("\n"), "content": said.lstrip("\n")}
    return made


def first_new(tokenizer, given, with_answer):
    """The first token with a character that `given` does not have: the same ones may be divided into other tokens."""
    added = tokenizer.added_tokens_decoder
    texts = [
        [chr(0xE000 + id) if id in added else tokenizer.convert_ids_to_tokens(id) for id in ids]
        for ids in (given, with_answer)
    ]
    shared = sum(takewhile(bool, (one == other for one, other in zip(*map("".join, texts), strict=False))))
    return sum(end <= shared for end in accumulate(map(len, texts[1])))


def oracle(tokenizer, family, messages, tools):
    """Each row that is trained, as ids and the places of trained tokens."""
    taken = [as_the_library_takes_it(message, family) for message in messages]

    def ids_of(count, **named):
        return tokenizer.apply_chat_template(
            taken[:count], tools=tools, tokenize=True, return_dict=False, sanitize_control_tokens=True, **named
        )

    full, kept, rows = ids_of(len(taken)), [], []
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        given, with_answer = ids_of(place, add_generation_prompt=True), ids_of(place + 1)
        start = first_new(tokenizer, given, with_answer)
        end = len(with_answer)
        if family.end is not None:
            end = with_answer.index(tokenizer.convert_tokens_to_ids(family.end), start) + 1
        if full[:end] == with_answer[:end]:
            kept += range(start, end)
        else:
            rows.append((with_answer, list(range(start, end))))
    return [*rows, (full, kept)] if kept else rows


def found(tokenizer, messages, tools):
    rows = Renderer(tokenizer).conversation(messages, json.dumps(tools) if tools else None)
    return [(list(row.ids), [place for place, on in enumerate(row.trained) if on]) for row in rows]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_trained_tokens_are_those_that_each_answer_adds(name, dressed):
    family, tokenizer = FAMILIES[name], dressed(name)
    refused = {case for case in CASES if case in family.refuses or (family.drops_tools and case in CALLS)}
    compared = tokens = 0
    for case in CASES.keys() - refused:
        tools = [TOOL] if case.startswith("tools") else None
        expected = oracle(tokenizer, family, CASES[case], tools)
        assert found(tokenizer, CASES[case], tools) == expected, case
        compared += len(expected)
        tokens += sum(len(trained) for _, trained in expected)
    assert compared >= len(CASES) - len(refused) >= 7 and tokens >= 115
    for case in refused:
        with pytest.raises(ProblemError) as caught:
            found(tokenizer, CASES[case], [TOOL] if case in CALLS else None)
        code = caught.value.problems[0].code
        assert code == "row_template_refused" or (case in CALLS and code == "row_template_drops_tools"), case


def test_every_template_is_compared_and_says_where_it_is_from():
    there = {path.stem: path.read_text() for path in FOLDER.glob("*.jinja")}
    assert there.keys() == FAMILIES.keys() and len(there) >= 20
    heads = {name: text.split("#}", 1)[0] for name, text in there.items()}
    assert all(re.search(r"Source: \S.*\nLicence: (MIT|Apache-2.0)", head) for head in heads.values())
