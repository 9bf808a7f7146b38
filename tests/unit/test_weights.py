"""Dense and sparse weights mean the same array, and no operation loses a zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snnc.ir.weights import (
    Csr,
    Dense,
    convert,
    density,
    drop_zeros,
    floats,
    freeze,
    integers,
    nonzeros,
    pack,
    row_of_each,
    scale_columns,
    scale_rows,
    sparse,
    stored,
    unpack,
)

# Multiples of 1/4, so that every product below is exact.
quarters = st.integers(-40, 40).map(lambda n: n / 4)
arrays = hnp.arrays(
    np.float64,
    st.one_of(
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=3),
    ),
    elements=quarters,
    fill=st.just(0.0),
)


def with_a_stored_zero():
    """[[0, 5, 0*], [0, 0, 0], [-2, 0, 0*]], where a star marks a zero in the pattern."""
    return Csr(
        shape=(3, 3),
        data=floats([5.0, 0.0, -2.0, 0.0]),
        indices=integers([1, 2, 0, 2]),
        indptr=freeze([0, 2, 2, 4], np.int64),
    )


@given(arrays)
def test_a_sparse_weight_unpacks_to_the_same_array(values):
    weight = sparse(values)
    np.testing.assert_array_equal(unpack(weight), values)
    assert stored(weight).all()
    assert len(weight.data) == nonzeros(weight) == np.count_nonzero(values)


def test_csr_goes_row_by_row_with_ascending_columns():
    weight = sparse(np.array([[0, 7, 0, 8], [0, 0, 0, 0], [9, 0, 0, 1]], dtype=np.int32))
    assert weight.data.tolist() == [7, 8, 9, 1]
    assert weight.indices.tolist() == [1, 3, 0, 3]
    assert weight.indptr.tolist() == [0, 2, 2, 4]
    assert row_of_each(weight).tolist() == [0, 0, 2, 2]


def test_csr_columns_of_a_kernel_are_those_of_the_flattened_row():
    kernel = np.zeros((2, 2, 3, 3))
    kernel[1, 1, 2, 0] = 4.0
    weight = sparse(kernel)
    assert weight.indices.tolist() == [1 * 9 + 2 * 3 + 0]
    assert row_of_each(weight).tolist() == [1]


@pytest.mark.parametrize(
    ("nonzero", "form"), [(0, Csr), (4, Csr), (5, Dense), (10, Dense)]
)  # half full is not below half
def test_pack_stores_csr_below_half_density(nonzero, form):
    values = np.zeros(10)
    values[:nonzero] = 1.0
    weight = pack(values.reshape(2, 5))
    assert isinstance(weight, form)
    np.testing.assert_array_equal(unpack(weight), values.reshape(2, 5))


def test_pack_keeps_the_type_of_its_numbers():
    assert unpack(pack(np.array([[0, 0, 0, 3]], dtype=np.int32))).dtype == np.int32
    assert unpack(pack(np.array([[1.5, 2.0]]))).dtype == np.float64


def test_a_weight_is_a_copy_that_cannot_be_written():
    values = np.ones((2, 2))
    weight = pack(values)
    values[0, 0] = 9.0
    assert unpack(weight)[0, 0] == 1.0
    for array in (weight.values, sparse(values).data, sparse(values).indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


def test_a_stored_zero_is_stored_but_counts_as_zero():
    weight = with_a_stored_zero()
    assert stored(weight).tolist() == [5.0, 0.0, -2.0, 0.0]
    assert nonzeros(weight) == 2
    assert density(weight) == 2 / 9


def test_the_density_of_nothing_is_zero():
    assert density(Dense(floats(np.zeros((0, 3))))) == 0.0


def test_drop_zeros_removes_stored_zeros_and_nothing_else():
    before = with_a_stored_zero()
    after = drop_zeros(before)
    assert after.data.tolist() == [5.0, -2.0]
    assert after.indices.tolist() == [1, 0]
    assert after.indptr.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(unpack(after), unpack(before))


def test_drop_zeros_leaves_what_has_none():
    dense, lean = Dense(floats([[0.0, 1.0]])), sparse(np.array([[0.0, 1.0]]))
    assert drop_zeros(dense) is dense
    assert drop_zeros(lean) is lean


@given(arrays)
def test_convert_changes_the_values_and_keeps_the_pattern(values):
    for weight in (Dense(floats(values)), sparse(values)):
        doubled = convert(weight, lambda x: np.rint(4 * x), np.int32)
        assert type(doubled) is type(weight)
        assert stored(doubled).dtype == np.int32
        assert len(stored(doubled)) == len(stored(weight))
        np.testing.assert_array_equal(unpack(doubled), 4 * values)


def test_convert_keeps_a_weight_that_becomes_zero_in_the_pattern():
    weight = convert(sparse(np.array([[0.0, 0.3, 2.0]])), np.rint, np.int32)
    assert weight.data.tolist() == [0, 2]
    assert weight.indices.tolist() == [1, 2]


@given(arrays, st.data())
def test_scaling_rows_multiplies_each_output(values, data):
    factor = data.draw(hnp.arrays(np.float64, len(values), elements=quarters))
    want = values * factor.reshape(-1, *[1] * (values.ndim - 1))
    for weight in (Dense(floats(values)), sparse(values)):
        scaled = scale_rows(weight, factor)
        np.testing.assert_array_equal(unpack(scaled), want)
        assert len(stored(scaled)) == len(stored(weight))


@given(arrays, st.data())
def test_scaling_columns_multiplies_each_weight_by_its_own_factor(values, data):
    flat = values.reshape(len(values), -1)
    factor = data.draw(hnp.arrays(np.float64, flat.shape, elements=quarters))
    for weight in (Dense(floats(values)), sparse(values)):
        scaled = scale_columns(weight, factor)
        np.testing.assert_array_equal(unpack(scaled), (flat * factor).reshape(values.shape))
        assert len(stored(scaled)) == len(stored(weight))
