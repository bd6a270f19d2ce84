"""Rounding, against exact fractions and against torch."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.soup import formats
from salsa.soup.formats import Converter

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
LIMITS = {"BF16": (8, -133), "F16": (11, -24), "F32": (24, -149)}
"""Bits of the significand, and the exponent of the smallest number."""


def rounded(dtype, value):
    """The nearest number of a format, by exact arithmetic; an even multiple of the unit where two are as near."""
    bits, least = LIMITS[dtype]
    exact = Fraction(value)
    exponent = least
    while abs(exact) >= Fraction(2) ** (exponent + bits):
        exponent += 1
    unit = Fraction(2) ** exponent
    return float(round(exact / unit) * unit)  # Python rounds ties of fractions to even


def narrowed(dtype, values):
    out = np.empty(len(values), formats.STORED[dtype])
    Converter(max(len(values), 1)).narrow(dtype, np.array(values, np.float64), out)
    return out


def floats(dtype, stored):
    return formats.widen(dtype, stored, np.empty(len(stored)))


@pytest.mark.parametrize("dtype", list(LIMITS))
@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_numbers_are_rounded_once_to_the_nearest(dtype, data):
    numbers = st.floats(-60000, 60000)
    # Around the middle of two neighbours, where rounding twice goes wrong.
    bits, least = LIMITS[dtype]
    near = st.builds(
        lambda odd, exponent, off, sign: sign * (odd * 2.0**exponent) * (1 + off * 2.0**-50),
        st.integers(2**bits, 2 ** (bits + 1) - 1),
        st.integers(least - 1, 14 - bits),
        st.integers(-3, 3),
        st.sampled_from([-1, 1]),
    )
    values = data.draw(st.lists(numbers | near, min_size=1, max_size=20))
    assert floats(dtype, narrowed(dtype, values)).tolist() == [rounded(dtype, value) for value in values]


def test_a_number_beside_the_middle_is_not_rounded_twice():
    middle = 1 + 2.0**-8
    above, below = middle * (1 + 2.0**-40), middle * (1 - 2.0**-40)
    found = floats("BF16", narrowed("BF16", [above, below, middle, -above, -below, 1 + 3 * 2.0**-8]))
    assert found.tolist() == [1 + 2.0**-7, 1, 1, -1 - 2.0**-7, -1, 1 + 2.0**-6]


@pytest.mark.parametrize("dtype", list(TORCH))
def test_every_format_is_read_and_written_as_torch_does_it(dtype):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.cat([torch.randn(999, generator=generator), torch.tensor([0.0, -0.0, 1e-30, 65504.0])])
    tensor = tensor.to(TORCH[dtype])
    bits = np.frombuffer(tensor.view(torch.uint8).numpy().tobytes(), formats.STORED[dtype])
    wide = floats(dtype, bits)
    assert np.array_equal(wide.view(np.uint64), tensor.double().numpy().view(np.uint64))
    assert narrowed(dtype, wide).tobytes() == bits.tobytes()


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_all_numbers_of_two_bytes_survive_the_way_to_float64_and_back(dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[(bits & formats._EXPONENT[dtype]) != formats._EXPONENT[dtype]]
    assert len(bits) == 2**16 - {"BF16": 2**8, "F16": 2**11}[dtype]
    wide = floats(dtype, bits.view(formats.STORED[dtype]))
    assert narrowed(dtype, wide).view(np.uint16).tolist() == bits.tolist()
    assert Converter(2**16).finite(dtype, bits.view(formats.STORED[dtype]))


@pytest.mark.parametrize("dtype", list(TORCH))
@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so_and_is_found(dtype, special):
    values = [1.0, special, -2.0]
    with np.errstate(all="ignore"):
        stored = narrowed(dtype, values)
    assert np.array_equal(floats(dtype, stored), values, equal_nan=True)
    assert not Converter(3).finite(dtype, stored)
    assert Converter(3).finite(dtype, stored[:1])
    assert Converter(3).finite(dtype, stored[:0])


def test_no_bit_pattern_of_nan_becomes_a_number():
    patterns = np.array([0x7FF00000_00000001, 0x7FFFFFFF_FFFFFFFF, 0xFFFFFFFF_FFFFFFFF, 0x7FF80000_00000000], np.uint64)
    with np.errstate(all="ignore"):
        for dtype in TORCH:
            assert np.isnan(floats(dtype, narrowed(dtype, patterns.view(np.float64)))).all()


@pytest.mark.parametrize(
    ("dtype", "largest"), [("F16", 65504.0), ("BF16", 3.3895313892515355e38), ("F32", 3.4028234e38)]
)
def test_beyond_the_range_is_infinite(dtype, largest):
    with np.errstate(all="ignore"):
        assert floats(dtype, narrowed(dtype, [largest, 1.01 * largest])).tolist() == pytest.approx([largest, np.inf])


@pytest.mark.parametrize("dtype", list(TORCH))
def test_scaling_is_one_product_in_float64(dtype):
    stored = narrowed(dtype, np.linspace(-3, 3, 101))
    out = np.empty(101)
    Converter(101).scale(dtype, stored, 0.3, out)
    assert out.tolist() == (floats(dtype, stored) * 0.3).tolist()


def test_sizes_are_in_whole_bytes():
    assert [formats.size(dtype, 3) for dtype in ("F64", "BF16", "BOOL", "F4", "F6_E2M3")] == [24, 6, 3, 2, 3]
