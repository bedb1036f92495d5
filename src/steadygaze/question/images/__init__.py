"""Images as people have them: the names by which they go, and what is made of them.

    digits:7                         scikit-learn's digits
    idx:FOLDER:17                    the t10k pair of IDX files as MNIST ships them, .gz or not
    idx:FOLDER:train:17              the training pair
    npz:FILE:17                      `images` (N, H, W) or (N, H, W, C), C of 1 or 3; perhaps `labels` (N,)
    folder:FOLDER:cat/1.jpg          of a folder with a subfolder for each class; `folder:FOLDER:17` by number
    csv:FILE:17                      of a table of paths and labels
    datasets:PATH:split=test:17      of a data set that the datasets package saved, or of Parquet files
    FILE.npy                         (H, W), (C, H, W) or (H, W, C): see `as_image`
    FILE.jpg, FILE.png, ...          a picture, as Pillow reads it

Settings stand before the number: ``classes=``, ``split=``, and columns by ``path=``, ``image=``, ``label=``.
For `images_of` several numbers may stand where one is asked for, ``digits:0..99`` or ``digits:7,20..29``, or
none for all. Numbers count from 0 and ranges hold both ends. Files are data: nothing is unpickled, and sizes
are checked before memory is taken, so that a header which claims too much is an error. Every error is an
ImageError of one sentence.
"""

from __future__ import annotations

from steadygaze.question.framing import Framing
from steadygaze.question.images.arrays import as_image
from steadygaze.question.images.loading import Library, images_of, load_image
from steadygaze.question.images.records import ImageEntry, LoadedImage

__all__ = ["Framing", "ImageEntry", "Library", "LoadedImage", "as_image", "images_of", "load_image"]
