"""NIST's Statistical Reference Datasets, univariate summary statistics.

The data and the certified values are those of the StRD of the National
Institute of Standards and Technology (in the public domain). The certified mean
and standard deviation have 15 digits and are for the decimal numbers of the
data; where doubles can't hold those to 15 digits of the deviation, the exact
statistics of the doubles are what is computed, so both are compared.
"""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from sk_batchnorm import BatchNorm1dTransformer

LEW = """
-213 -564 -35 -15 141 115 -420 -360 203 -338 -431 194 -220 -513 154 -125 -559 92
-21 -579 -52 99 -543 -175 162 -457 -346 204 -300 -474 164 -107 -572 -8 83 -541
-224 180 -420 -374 201 -236 -531 83 27 -564 -112 131 -507 -254 199 -311 -495 143
-46 -579 -90 136 -472 -338 202 -287 -477 169 -124 -568 17 48 -568 -135 162 -430
-422 172 -74 -577 -13 92 -534 -243 194 -355 -465 156 -81 -578 -64 139 -449 -384
193 -198 -538 110 -44 -577 -6 66 -552 -164 161 -460 -344 205 -281 -504 134 -28
-576 -118 156 -437 -381 200 -220 -540 83 11 -568 -160 172 -414 -408 188 -125 -572
-32 139 -492 -321 205 -262 -504 142 -83 -574 0 48 -571 -106 137 -501 -266 190
-391 -406 194 -186 -553 83 -13 -577 -49 103 -515 -280 201 300 -506 131 -45 -578
-80 138 -462 -361 201 -211 -554 32 74 -533 -235 187 -372 -442 182 -147 -566 25 68
-535 -244 194 -351 -463 174 -125 -570 15 72 -550 -190 172 -424 -385 198 -218 -536
96
"""
LOTTERY = """
162 671 933 414 788 730 817 33 536 875 670 236 473 167 877 980 316 950 456 92 517
557 956 954 104 178 794 278 147 773 437 435 502 610 582 780 689 562 964 791 28 97
848 281 858 538 660 972 671 613 867 448 738 966 139 636 847 659 754 243 122 455
195 968 793 59 730 361 574 522 97 762 431 158 429 414 22 629 788 999 187 215 810
782 47 34 108 986 25 644 829 630 315 567 919 331 207 412 242 607 668 944 749 168
864 442 533 805 372 63 458 777 416 340 436 140 919 350 510 572 905 900 85 389 473
758 444 169 625 692 140 897 672 288 312 860 724 226 884 508 976 741 476 417 831
15 318 432 241 114 799 955 833 358 935 146 630 830 440 642 356 373 271 715 367
393 190 669 8 861 108 795 269 590 326 866 64 523 862 840 219 382 998 4 628 305
747 247 34 747 729 645 856 974 24 568 24 694 608 480 410 729 947 293 53 930 223
203 677 227 62 455 387 318 562 242 428 968
"""
MAVRO = """
2.00180 2.00170 2.00180 2.00190 2.00180 2.00170 2.00150 2.00140 2.00150 2.00150
2.00170 2.00180 2.00180 2.00190 2.00190 2.00210 2.00200 2.00160 2.00140 2.00130
2.00130 2.00150 2.00150 2.00160 2.00150 2.00140 2.00130 2.00140 2.00150 2.00140
2.00150 2.00160 2.00150 2.00160 2.00190 2.00200 2.00200 2.00210 2.00220 2.00230
2.00240 2.00250 2.00270 2.00260 2.00260 2.00260 2.00270 2.00260 2.00250 2.00240
"""
MICHELSO = """
299.85 299.74 299.90 300.07 299.93 299.85 299.95 299.98 299.98 299.88 300.00 299.98
299.93 299.65 299.76 299.81 300.00 300.00 299.96 299.96 299.96 299.94 299.96 299.94
299.88 299.80 299.85 299.88 299.90 299.84 299.83 299.79 299.81 299.88 299.88 299.83
299.80 299.79 299.76 299.80 299.88 299.88 299.88 299.86 299.72 299.72 299.62 299.86
299.97 299.95 299.88 299.91 299.85 299.87 299.84 299.84 299.85 299.84 299.84 299.84
299.89 299.81 299.81 299.82 299.80 299.77 299.76 299.74 299.75 299.76 299.91 299.92
299.89 299.86 299.88 299.72 299.84 299.85 299.85 299.78 299.89 299.84 299.78 299.81
299.76 299.81 299.79 299.81 299.82 299.85 299.87 299.87 299.81 299.74 299.81 299.94
299.95 299.80 299.81 299.87
"""


def digits_of_pi(n):
    """First n decimal digits of pi, by Machin's formula in integers."""
    one = 10 ** (n + 10)

    def arctan_of_inverse(x):
        total = term = one // x
        k = 1
        while term:
            term //= -x * x
            k += 2
            total += term // k
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    # Through Decimal, since Python refuses to write so long an integer.
    return [int(digit) for digit in str(Decimal(pi))[:n]]


def digits_as_certified(n):
    """The digits of pi with one 8 read as a 3.

    That is what the certified values say of the file: its digits sum to 5 less
    than those of pi, and their squares to 55 less, which one digit alone
    explains, an 8 become a 3. Which 8 it is moves neither mean nor variance.
    """
    digits = digits_of_pi(n)
    digits[digits.index(8)] = 3
    return digits


def alternating(first, low, high):
    return [first] + [low, high] * 500


# Decimal numbers as text, certified mean, certified standard deviation.
SETS = {
    "Lew": (LEW.split(), "-177.435000000000", "277.332168044316"),
    "Lottery": (LOTTERY.split(), "518.958715596330", "291.699727470969"),
    "Mavro": (MAVRO.split(), "2.00185600000000", "0.000429123454003053"),
    "Michelso": (MICHELSO.split(), "299.852400000000", "0.0790105478190518"),
    "NumAcc1": (["10000001", "10000003", "10000002"], "10000002", "1"),
    "NumAcc2": (alternating("1.2", "1.1", "1.3"), "1.2", "0.1"),
    "NumAcc3": (alternating(*(f"1000000.{d}" for d in (2, 1, 3))), "1000000.2", "0.1"),
    "NumAcc4": (
        alternating(*(f"10000000.{d}" for d in (2, 1, 3))),
        "10000000.2",
        "0.1",
    ),
    "PiDigits": (digits_as_certified(5000), "4.53480000000000", "2.86733906028871"),
}
SIZES = {"Lew": 200, "Lottery": 218, "Mavro": 50, "Michelso": 100, "PiDigits": 5000}


def exact(values):
    """Mean and population variance of numbers without rounding."""
    values = [Fraction(value) for value in values]
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def agreement(actual, expected):
    """Number of decimal digits that agree (NIST's log relative error)."""
    error = abs(Fraction(float(actual)) - expected) / abs(expected)
    return float(-np.log10(float(error))) if error else 16.0


@pytest.mark.parametrize("name", SETS)
def test_the_data_are_those_that_nist_certified(name):
    """In exact arithmetic on the decimals, to the 15 digits of the certificate."""
    values, mean, std = SETS[name]
    assert len(values) == SIZES.get(name, len(values))
    exact_mean, exact_var = exact(values)
    n = len(values)
    assert abs(exact_mean / Fraction(mean) - 1) < Fraction(1, 10**14)
    unbiased = exact_var * n / (n - 1)
    assert abs(unbiased / Fraction(std) ** 2 - 1) < Fraction(1, 10**14)


@pytest.mark.parametrize("name", SETS)
def test_one_mini_batch_has_fourteen_digits(name):
    X = np.array(SETS[name][0], dtype=np.float64)[:, None]
    mean, var = exact(map(float, X[:, 0]))
    bn = BatchNorm1dTransformer(momentum=None).partial_fit(X)
    assert agreement(bn.running_mean_[0], mean) > 15
    n = len(X)
    assert agreement(bn.running_var_[0], var * n / (n - 1)) > 14
    # Against the certificate: as far as the doubles are the decimals. That
    # is 8 digits of NumAcc4's variance, where the third decimal of a double
    # near 10000000.2 is 1e-9 off.
    lost = agreement(float(var), exact(SETS[name][0])[1])
    certified = Fraction(SETS[name][2]) ** 2
    assert agreement(bn.running_var_[0], certified) > min(lost, 14) - 0.5


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("name", SETS)
def test_cut_into_mini_batches_under_total(name, size):
    """The cumulative average of equal mini-batches is that of all rows.

    The running mean is one double, so a difference from it of d is known to
    half a unit in the last place of the mean, and so is each d² that enters
    the variance: 8 digits of NumAcc4, whose mean is 1e8 standard deviations.
    """
    values = np.array(SETS[name][0], dtype=np.float64)
    values = values[: len(values) // size * size or None]
    if len(values) < size:
        size = len(values)
    mean, var = exact(map(float, values))
    bn = BatchNorm1dTransformer(variance="total", momentum=None)
    for batch in values.reshape(-1, size, 1):
        bn.partial_fit(batch)
    assert agreement(bn.running_mean_[0], mean) > 14
    ratio = abs(float(mean)) / float(var) ** 0.5
    assert agreement(bn.running_var_[0], var) > min(14, 15 - np.log10(ratio)) - 1
