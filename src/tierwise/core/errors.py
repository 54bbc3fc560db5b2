"""Every error that tierwise raises on purpose.

::

    TierwiseError
    ├── ConfigurationError          a setting, option or environment variable is wrong
    ├── DependencyError             an optional package or program is not installed
    ├── ModelError                  a model cannot be used
    │   ├── ModelFileError          missing, unreadable, truncated or of the wrong format
    │   ├── ModelIntegrityError     the file is not the one its model card names
    │   └── UntrustedModelError     loading it would run code from the file
    ├── RequestError                one request cannot be answered; the service goes on
    │   ├── InvalidRequestError     not JSON, or a field is missing or of the wrong type
    │   ├── InvalidInputError       features of the wrong shape or dtype, NaN or infinite
    │   ├── UnknownModelError       no such model or version here
    │   ├── PayloadTooLargeError    more bytes than the service accepts
    │   ├── OverloadedError         the queue is full, or the service is draining; try again later
    │   ├── DeadlineExceededError   the answer would come too late
    │   └── InferenceError          the runtime failed on this input
    └── TransportError              a broker or server cannot be reached, or broke the protocol
        └── BrokerError             a broker refused the connection, or cannot be started

``code`` is the stable word that machines read (the ``error.code`` of an MQTT error, the ``code`` label of
``tierwise_requests_total``); the message tells a person what was wrong, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class TierwiseError(Exception):
    """Root of all errors that tierwise raises on purpose."""

    code: ClassVar[str] = "error"


class ConfigurationError(TierwiseError):
    """A setting, an option or an environment variable is wrong."""

    code = "configuration"


class DependencyError(TierwiseError):
    """An optional package or program is not installed; the message says how to get it."""

    code = "dependency"


class ModelError(TierwiseError):
    """A model cannot be used."""

    code = "model"


class ModelFileError(ModelError):
    """A model file or card is missing, unreadable, truncated or of the wrong format."""

    code = "model_file"


class ModelIntegrityError(ModelError):
    """A file is not the one that its model card names (SHA-256 differs)."""

    code = "model_integrity"


class UntrustedModelError(ModelError):
    """Loading the file would run code from it (a pickled module) and nobody has allowed that."""

    code = "model_untrusted"


class RequestError(TierwiseError):
    """One request cannot be answered. The service lives on."""

    code = "request"


class InvalidRequestError(RequestError):
    """The payload is not JSON, or a field is missing or of the wrong type."""

    code = "invalid_request"


class InvalidInputError(RequestError):
    """The features have the wrong shape or dtype, or hold NaN or infinity."""

    code = "invalid_input"


class UnknownModelError(RequestError):
    """The service has no such model, or not in that version."""

    code = "unknown_model"


class PayloadTooLargeError(RequestError):
    """The payload has more bytes than the service accepts."""

    code = "too_large"


class OverloadedError(RequestError):
    """The queue is full or the service is draining.

    ``retry_after_s`` is the wait in seconds after which a retry has a chance.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(RequestError):
    """The request's deadline passed before it could be answered."""

    code = "deadline_exceeded"


class InferenceError(RequestError):
    """The runtime failed on an input that fits the model's signature."""

    code = "inference_failed"


class TransportError(TierwiseError):
    """A peer cannot be reached, or broke the protocol."""

    code = "transport"


class BrokerError(TransportError):
    """An MQTT broker refused the connection, or cannot be started."""

    code = "broker"
