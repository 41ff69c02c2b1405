"""Pairs of answers of MATH with the verdict of lm-evaluation-harness's own code, to hold ours against (math_pairs.mjs).

  python math_pairs.py HARNESS GOLDENS OUT [PART PARTS]

HARNESS is its source folder, of which tasks/minerva_math/utils.py runs, with sympy 1.14 and any antlr4 runtime of version 4; GOLDENS
has math_equiv.jsonl and minerva_math.jsonl. Every second pair or so is the same answer written otherwise. About ten minutes.
"""
import importlib.metadata
import json
import random
import re
import sys
import types

harness, goldens, out, part, parts = [*sys.argv[1:], "0", "1"][:5]


class Missing(types.ModuleType):
    """What the harness imports beside and does not use for this."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("datasets", "math_verify"):
    sys.modules[name] = Missing(name)
version = importlib.metadata.version
importlib.metadata.version = lambda name: "4.11" if name.startswith("antlr4") else version(name)
sys.path.insert(0, f"{harness}/lm_eval/tasks/minerva_math")
import utils  # noqa: E402

rnd = random.Random(20261127)
one_of = rnd.choice


def lines(name):
    return [json.loads(line) for line in open(f"{goldens}/{name}.jsonl", encoding="utf-8")]


def altered(answer):
    """The same answer otherwise, and others that look like it."""
    yield from (answer + "+0", "0+" + answer, "1" + answer, "\\left(" + answer + "\\right)", "(" + answer + ")", answer + "+1")
    yield from ("-" + answer, "2" + answer, answer + "^2", answer[:-1], answer[1:], answer.replace("\\frac", "\\dfrac"))
    yield from (answer.replace(" ", ""), " " + answer + " ", answer + ".", "$" + answer + "$", "\\boxed{" + answer + "}")
    yield from ("x=" + answer, "\\text{" + answer + "}", answer + "\\text{ cm}", answer + "^\\circ", answer + "%", answer + "\\%")
    yield from ("\\$" + answer, "\\frac{" + answer + "}{1}", "\\frac{2" + answer + "}{2}", "\\sqrt{(" + answer + ")^2}")
    yield from ("\\sqrt{" + answer + "}\\sqrt{" + answer + "}", "|" + answer + "|", answer + "\\cdot1", answer + "/1")
    yield from (answer + "," + answer, answer + "!")
    fraction = re.fullmatch(r"\\frac\{(-?\d+)\}\{(\d+)\}", answer)
    if fraction:
        p, q = int(fraction[1]), int(fraction[2])
        yield from (f"{p}/{q}", repr(p / q), f"{2 * p}/{2 * q}", f"\\frac{{{3 * p}}}{{{3 * q}}}", f"{p / q:.2f}", f"\\frac{p}{q}")
    if re.fullmatch(r"-?\d+", answer):
        n = int(answer)
        yield from (f"{n}.0", f"0{n}", f"{n:,}", f"\\frac{{{n * 7}}}{{7}}", f"{n + 1}-1", f"{n}.000001", f"{n - 1}+1")
    if len(answer) > 2:
        i = rnd.randrange(len(answer) - 1)
        yield answer[:i] + answer[i + 1] + answer[i] + answer[i + 2:]
        yield answer[:i] + answer[i + 1:]
        yield answer[:i] + one_of("0123456789x+-^{}()\\_.,! ") + answer[i:]


def atom():
    if rnd.random() < 2 / 3:
        return one_of(["1", "2", "3", "4", "5", "6", "7", "8", "9", "12", "0.5", "2.5", "0"])
    return one_of(["x", "y", "n", "a", "\\pi", "e", "i", "\\theta"])


def expression(depth):
    if depth == 0:
        return atom()
    form = one_of(["A+A", "A-A", "(A)(A)", "\\frac{A}{A}", "\\sqrt{A}", "(A)^{A}", "A\\cdot A", "\\sin(A)", "\\ln(A)", "(A)^2", "-A",
                   "\\left(A\\right)", "\\log_{2}(A)"])
    return "".join(expression(rnd.randrange(depth)) if letter == "A" else letter for letter in form)


def rewritten(text):
    return one_of(["(A)+0", "\\frac{2(A)}{2}", "(A)\\cdot 1", "1(A)", "x+(A)-x", "\\frac{(A)^2}{A}", "\\sqrt{(A)^2}", "(A)^{1}",
                   "\\frac{1}{\\frac{1}{A}}", "(A)(\\sin^2 x+\\cos^2 x)", "-(-(A))", "\\ln(e^{A})"]).replace("A", text)


answers = {one[key] for one in lines("math_equiv") for key in ("a", "b")}
answers = sorted(answers | {one["doc"]["answer"] for one in lines("minerva_math") if one.get("doc")})
pairs = []
for answer in answers:
    pairs.append((answer, answer))
    pairs += [(other, answer) for other in altered(answer)]
    pairs += [(one_of(answers), answer) for _ in range(3)]
for _ in range(900):
    text = expression(one_of([1, 2, 2, 3]))
    pairs.append((rewritten(text), text))
pairs += [(expression(one_of([1, 2])), expression(one_of([1, 2]))) for _ in range(500)]
pairs = list(dict.fromkeys(pairs))[int(part)::int(parts)]

with open(out, "w", encoding="utf-8") as file:
    for a, b in pairs:
        normal = [utils.normalize_final_answer(text) for text in (a, b)]
        file.write(json.dumps({"a": a, "b": b, "normal": normal, "equal": bool(utils.is_equiv(*normal))}) + "\n")
