"""Specifications: what is written is what is made, and what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from steadygaze.errors import PerturbationError
from steadygaze.perturbation import BUILT_IN, Brightness, Chain, Patch, Translate
from steadygaze.perturbation.notation import chain_of, parse, render

SPELLINGS = [
    ("brightness(amount=-0.3..0.3)", "brightness(amount=-0.3..0.3)"),
    (" brightness ( amount = -3e-1 .. +.3 ) ", "brightness(amount=-0.3..0.3)"),
    ("contrast(amount=0.25)", "contrast(amount=0.25)"),
    ("saturation(amount=-1..0)", "saturation(amount=-1..0)"),
    (
        "patch(opacity=0..1, top=12, left=12, height=3, width=3, mode=add)",
        "patch(opacity=0..1, top=12, left=12, height=3, width=3, value=1, mode=add)",
    ),
    (
        "patch(mode=blend, value=(0.1, 0.2, 1), size=2, left=0, top=1, opacity=0..0.5, compare_under=true)",
        "patch(opacity=0..0.5, top=1, left=0, height=2, width=2, value=(0.1, 0.2, 1), mode=blend, "
        "compare_under=true)",
    ),
    ("blend(amount=0..1, target=fog)", "blend(amount=0..1, target=fog, colour=0.9)"),
    ("blend(amount=0..1, target=blur, sigma=1e0)", "blend(amount=0..1, target=blur, sigma=1)"),
    ("blend(amount=0..1, target=grey)", "blend(amount=0..1, target=grey)"),
    ("translate(dx=-2..2, dy=0)", "translate(dx=-2..2, dy=0, fill=0)"),
    ("translate(dy=-1.5..0)", "translate(dx=0, dy=-1.5..0, fill=0)"),
    (
        "translate(interpolation=bilinear, dx=-2..2)",
        "translate(dx=-2..2, dy=0, fill=0, interpolation=bilinear)",
    ),
    ("translate(dx=-2..2, interpolation=triangles)", "translate(dx=-2..2, dy=0, fill=0)"),
    ("rotate(degrees=-10..10)", "rotate(degrees=-10..10, fill=0)"),
    ("scale(fill=(0, 0.5, 1), amount=0.25)", "scale(amount=0.25, fill=(0, 0.5, 1))"),
    ("hue(degrees=-30..30)", "hue(degrees=-30..30)"),
    ("gamma(amount=-0.5..1)", "gamma(amount=-0.5..1)"),
    ("blur(sigma=0..1.5)", "blur(sigma=0..1.5)"),
    ("shear(y=-0.5..0.5)", "shear(x=0, y=-0.5..0.5, fill=0)"),
    ("contrast(amount=0..1)|brightness(amount=0..1)", "contrast(amount=0..1) | brightness(amount=0..1)"),
]


@pytest.mark.parametrize(("text", "rendered"), SPELLINGS)
def test_reading_and_writing(text, rendered):
    assert render(parse(text)) == rendered
    assert render(parse(rendered)) == rendered


@given(low=st.floats(-5, 0), high=st.floats(1e-9, 5), dy=st.floats(-4, 4))
def test_numbers_survive_exactly(low, high, dy):
    again = parse(render(Translate((low, high), dy)))
    assert (again.parameters[0].low, again.parameters[0].high, again.constants["dy"]) == (low, high, dy)


def test_every_built_in_has_a_name_of_its_own_and_is_listed_in_the_refusal():
    assert len({cls.name for cls in BUILT_IN}) == len(BUILT_IN)
    with pytest.raises(PerturbationError) as caught:
        parse("sparkle(amount=0..1)")
    assert all(cls.name in str(caught.value) for cls in BUILT_IN)


def test_files_are_read(tmp_path):
    array = np.random.default_rng(1).random((1, 4, 5))
    np.save(tmp_path / "eta.npy", array)
    direction = parse(f"direction(amount=-1..1, array={tmp_path}/eta.npy)")
    np.testing.assert_array_equal(direction.array, array)
    assert render(parse(render(direction))) == render(direction)
    assert direction.constants["array"] == f"{tmp_path}/eta.npy"

    pixels = np.random.default_rng(2).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a, (b).png")
    blend = parse(f'blend(amount=0..1, target="{tmp_path}/a, (b).png")')
    np.testing.assert_array_equal(blend.target, pixels.transpose(2, 0, 1) / 255)
    assert render(parse(render(blend))) == render(blend)


def test_files_that_lie_or_hold_code_are_refused(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.png").write_text("hello")
    for name, side, held in (("short.npy", 10**6, 100), ("large.npy", 10_001, 10_001**2)):
        with (tmp_path / name).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (side, side)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + held)
    for name in ("pickled.npy", "text.npy", "text.png", "short.npy", "large.npy"):
        with pytest.raises(PerturbationError, match="cannot be read"):
            parse(f"direction(amount=0..1, array={tmp_path / name})")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be read; write a name and its settings"),
        ("brightness", "cannot be read"),
        ("brightness(amount=0..1) contrast(amount=0..1)", "cannot be read|allowed"),
        ("brightness(amount=0..1)|", "cannot be read"),
        ("brightness()", "brightness lacks amount"),
        ("brightness(0..1)", "not of the form key=value; name what it is, such as amount=0..1"),
        ("translate(dx=-1..1, bilinear)", "not of the form key=value; its settings: dx, dy, fill"),
        ("brightness(amount=-0,1..0,1)", "numbers with a point, such as 0.3: a comma ends a setting"),
        ("brightness(amount=0..0,3)", "numbers with a point"),
        ("brightness(amount=)", "not of the form key=value"),
        ("brightness(amout=0..1)", "no setting 'amout'; allowed: amount"),
        ("brightness(amount=0..1, amount=2)", "names amount twice"),
        ("brightness(amount=0.3..-0.3)", "reversed; write -0.3..0.3"),
        ("brightness(amount=0.1..0.3)", "leaves out 0"),
        ("brightness(amount=nan)", "allowed: a range such as"),
        ("brightness(amount=0..inf)", "allowed: a range such as"),
        ("brightness(amount=1e999)", "finite"),
        ("patch(opacity=0..1)", "patch lacks top and left"),
        ("patch(opacity=0..1, top=1, left=1)", "either size, or both height and width"),
        ("patch(opacity=0..1, top=1.5, left=1, size=2)", "patch top is '1.5'; allowed: a whole number"),
        ("patch(opacity=0..1, top=0..2, left=1, size=2)", "patch top is '0..2'; allowed: a whole number"),
        ("patch(opacity=0..1, top=1, left=1, size=2, mode=mul)", "allowed: add, blend"),
        ("patch(opacity=0..1, top=1, left=1, size=2, compare_under=1)", "allowed: true or false"),
        ("patch(opacity=0..1, top=1, left=1, size=2, value=(1,)", "patch value is"),
        ("blend(amount=0..1)", "blend lacks target"),
        ("blend(amount=0..1, target=sand)", "allowed: grey, blur, fog, a .npy or .png file"),
        ("blend(amount=0..1, target=absent.npy)", "'absent.npy', which does not exist"),
        ("direction(amount=0..1, array=grey)", "allowed: a .npy or .png file"),
    ],
)
def test_refusals(text, sentence):
    with pytest.raises(PerturbationError, match=sentence) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_chain_of_takes_specifications_and_objects_alike():
    brightness = Brightness(0, 1)
    chain = chain_of("contrast(amount=0..1)", brightness, ["patch(opacity=0..1, top=0, left=0, size=1)"])
    assert isinstance(chain, Chain)
    assert [link.name for link in chain.links] == ["contrast", "brightness", "patch"]
    with pytest.raises(PerturbationError, match="each link must be a perturbation"):
        chain_of(3)


def test_what_is_not_from_a_file_is_shown():
    shown = render(chain_of(Patch(0, 1, top=0, left=0, size=1), parse("brightness(amount=0.1)")))
    assert shown.endswith("| brightness(amount=0.1)")


def test_what_stands_in_quotes_is_not_cut(tmp_path, monkeypatch):
    """Brackets, commas and bars are part of the file's name, before which and after which all is as usual."""
    monkeypatch.chdir(tmp_path)
    np.save("a|b,c(d) (e.npy", np.ones((1, 2, 2)))
    chain = parse("direction(array='a|b,c(d) (e.npy', amount=0..0.5) | brightness(amount=-1..1)")
    assert [link.name for link in chain.links] == ["direction", "brightness"]
    assert chain.box.tolist() == [[0.0, 0.5], [-1.0, 1.0]]
    assert render(chain) == 'direction(amount=0..0.5, array="a|b,c(d) (e.npy") | brightness(amount=-1..1)'
    assert render(parse(render(chain))) == render(chain)


def test_a_minus_sign_as_pages_print_it_is_read():
    assert render(parse("brightness(amount=\u22120.3..0.3)")) == "brightness(amount=-0.3..0.3)"
    assert render(parse("patch(opacity=0..1, top=0, left=0, size=1, value=(\u22121, 0, 1))")) == render(
        parse("patch(opacity=0..1, top=0, left=0, size=1, value=(-1, 0, 1))")
    )
