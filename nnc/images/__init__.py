"""Classification of images in folders, files and arrays; no setting is required.

    from nnc.images import ImageClassifier
    model = ImageClassifier(random_state=0).fit("photos")  # one subfolder for each class
    model.predict("new"), model.predict_proba("new"), model.score("test"), print(model.report())
    model.save("photos.json"), nnc.load("photos.json")

Arrays need only NumPy. Image files need Pillow (extra `[images]`).
"""

from typing import TYPE_CHECKING

from nnc.images.classifier import ImageClassifier
from nnc.images.reading import ImageWarning, list_images

__all__ = ["ImageClassifier", "ImageWarning", "list_images"]

if not TYPE_CHECKING:  # hidden from type checkers, which would accept any attribute of a module with __getattr__

    def __getattr__(name: str) -> object:
        from nnc._utils.names import unknown_name_error

        raise unknown_name_error("nnc.images", name, __all__)
