"""Random numbers that belong to a sample."""

from __future__ import annotations

import numpy as np
import torch

from robnet_zoo.attacks.random import Key, generators, normal, streams, uniform

LIKE = torch.zeros(3, 2, 5, 5)


def test_a_row_depends_on_its_key_alone():
    keys = [Key(0, 4, 0), Key(0, 7, 1), Key(1, 4, 0)]
    rows = uniform(keys, LIKE, "start")
    assert torch.equal(uniform(keys[::-1], LIKE, "start"), rows.flip(0))
    assert torch.equal(uniform(keys[1:2], LIKE[:1], "start"), rows[1:2])


def test_seed_sample_restart_and_purpose_each_give_a_stream_of_its_own():
    base = Key(0, 1, 2)
    keys = [base, base._replace(seed=1), base._replace(sample=2), base._replace(restart=3), Key(0, 12, 0), Key(1, 2, 0)]
    streams = [key.generator(purpose).random(4).tobytes() for key in keys for purpose in ("start", "radius")]
    assert len(set(streams)) == len(streams)


def test_numbers_are_those_of_philox_under_a_key_that_names_them_all():
    # The random numbers behind a result can be drawn again by other means.
    import hashlib

    digest = hashlib.blake2b(b"3 14 1 start", digest_size=16).digest()
    expected = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).uniform(-1, 1, (2, 5, 5))
    row = uniform([Key(3, 14, 1)], LIKE[:1], "start")[0]
    np.testing.assert_array_equal(row.numpy(), expected.astype(np.float32))


def test_moments_are_right():
    keys, like = [Key(0, sample, 0) for sample in range(100)], torch.zeros(100, 3, 16, 16, dtype=torch.float64)
    flat = uniform(keys, like, "start")
    assert flat.abs().max() <= 1
    assert flat.mean().abs() < 0.01
    assert (flat.square().mean() - 1 / 3).abs() < 0.01
    bell = normal(keys, like, "start")
    assert bell.mean().abs() < 0.02
    assert (bell.square().mean() - 1).abs() < 0.03


def test_the_dtype_is_that_of_the_images():
    assert uniform([Key(0, 0, 0)], LIKE[:1].bfloat16(), "start").dtype == torch.bfloat16
    assert normal([Key(0, 0, 0)], LIKE[:1].double(), "start").dtype == torch.float64


def test_no_global_generator_is_touched():
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    uniform([Key(0, 0, 0)], LIKE[:1], "start")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_each_step_of_a_stream_has_numbers_of_its_own_that_other_rows_do_not_change():
    keys, steps = [Key(0, 4, 0), Key(0, 7, 1), Key(0, 4, 0)], torch.tensor([0, 0, 1])
    drawn = [draw.random(3).tolist() for draw, _ in generators(streams(keys, "views"), steps)]
    assert len({number for row in drawn for number in row}) == 9
    ((last, before),) = generators(streams(keys[2:], "views"), steps[2:])
    assert (last.random(3).tolist(), before) == (drawn[2], 1)
