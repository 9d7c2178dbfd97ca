import pickle
import warnings

import pytest

from multimodal.preprocess.quiet import quiet


def test_silent_inside_only():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            warnings.warn("silent", stacklevel=1)
            with quiet():
                warnings.warn("silent", stacklevel=1)
            warnings.warn("still silent", stacklevel=1)
        with pytest.raises(UserWarning, match="heard"):
            warnings.warn("heard", stacklevel=1)


def test_also_after_an_error():
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_the_filters_do_not_pile_up():
    with warnings.catch_warnings():
        before = len(warnings.filters)
        for _ in range(100):
            warnings.simplefilter("error")  # goes to the front
            with quiet():
                warnings.warn("silent", stacklevel=1)
        assert len(warnings.filters) <= before + 2


def test_a_list_of_filters_that_was_swapped():
    with quiet():
        pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("silent", stacklevel=1)
        warnings.warn("heard", stacklevel=1)
    assert [str(item.message) for item in caught] == ["heard"]
    with quiet():
        warnings.warn("silent", stacklevel=1)


def test_the_filters_still_travel_to_other_processes():
    with quiet():
        pass
    assert len(pickle.loads(pickle.dumps(warnings.filters))) == len(warnings.filters)
