"""Compiled functions work also where nothing can be kept on disk."""

import numba

from nefgpt import compiled


def test_without_a_folder_for_the_result(monkeypatch, caplog):
    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    real = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    with caplog.at_level("WARNING"):
        double = compiled.compiled(lambda x: 2 * x)
    assert double(3) == 6
    assert "compiled anew in every process" in caplog.text
