"""The built-in images and networks, for use from Python: what needs no file of one's own.

    from steadygaze.digits import builtin_model, digit

    image, label = digit(202)
    answer = steadygaze.verify(builtin_model("digits-cnn"), image, steadygaze.Brightness(-0.3, 0.3))

`verify` takes "digits-cnn" and "digits-mlp" by name as well. The networks' files lie in models/ beside this
module.
"""

from __future__ import annotations

from steadygaze.question.digits import BUILTIN_MODELS, LEVELS, builtin_model, digit, digits, is_held_out

__all__ = ["BUILTIN_MODELS", "LEVELS", "builtin_model", "digit", "digits", "is_held_out"]
