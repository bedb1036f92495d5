"""Names that are no networks, and what is meant by them."""

from __future__ import annotations

import pytest

from steadygaze.errors import ModelError
from steadygaze.question.networks import network_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits-cn", "did you mean 'digits-cnn'"),
        ("mynet", "a function in mynet.py, 'mynet:FUNCTION'"),
        ("resnet", "give one of these"),
        ("google/vit-tiny", "a model of a hub, .* what from_pretrained\\(.google/vit-tiny.\\) makes"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_is_meant(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text("")
    with pytest.raises(ModelError, match=words):
        network_of(name, (1, 8, 8))
