"""The errors of images that cannot be used."""

from multimodal.preprocess.preprocessor import InputError


class ImageError(InputError):
    """An image that cannot be used. The message is a short reason."""

    @classmethod
    def not_found(cls, message: str) -> InputError:
        return ImageNotFoundError(message)


class ImageNotFoundError(ImageError, FileNotFoundError):
    """A path that does not exist."""
