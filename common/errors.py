"""Every error hardfirst raises on purpose. The message is the whole story: what, its value, what is allowed, the fix.

HardfirstError
├── SettingError             a setting is missing or has a value that is not allowed
├── UnknownNameError         a strategy, acquisition function or platform that is not registered
├── RefusedError             what a person asked for cannot be done as things stand
├── PlatformError            the annotation platform said no, or did not answer
│   ├── PlatformUnreachableError   no answer, or a server-side failure: worth another try later
│   ├── AccessDeniedError          wrong, expired or powerless token
│   ├── ProjectGoneError           the project no longer exists
│   ├── NotListedError             nobody has added hardfirst to this project on the platform
│   ├── UnsupportedProjectError    the project is of a kind hardfirst does not serve
│   ├── ChangedByPersonError       a person changed a setting that hardfirst had set
│   └── PublishError               the platform stored less than was sent
├── MediaError               an image could not be had; it is reported and skipped
│   ├── MediaUnavailableError      no answer, or later: worth another try (in ``common.media``)
│   ├── RefusedAddressError        an address hardfirst must not fetch
│   └── UnreadableImageError       bytes that are not an image, or too large a one
├── ModelError               weights that are missing, unsafe or broken
├── TrainingError            a round's training failed; the champion keeps serving
└── StoreError               the database is locked, full, of another version, or gone
"""


class HardfirstError(Exception):
    """Something a person can act on; ``str(error)`` is one clear sentence, with no secret in it."""


class SettingError(HardfirstError):
    """A setting is missing or has a value that is not allowed."""


class UnknownNameError(HardfirstError):
    """A name that no registry holds; the message lists the right ones."""


class RefusedError(HardfirstError):
    """What a person asked for cannot be done as things stand; the message says why and what can."""


class PlatformError(HardfirstError):
    """The annotation platform said no, or did not answer."""


class PlatformUnreachableError(PlatformError):
    """No answer, or a server-side failure: worth another try later."""


class AccessDeniedError(PlatformError):
    """Wrong, expired or powerless token."""


class ProjectGoneError(PlatformError):
    """The project no longer exists on the platform."""


class NotListedError(PlatformError):
    """Nobody has added hardfirst to this project on the platform."""


class UnsupportedProjectError(PlatformError):
    """The project is of a kind hardfirst does not serve."""


class ChangedByPersonError(PlatformError):
    """A person changed a setting that hardfirst had set; hardfirst stops and says so."""


class PublishError(PlatformError):
    """The platform stored fewer predictions than were sent."""


class MediaError(HardfirstError):
    """An image could not be had; it is reported and skipped."""


class RefusedAddressError(MediaError):
    """An address hardfirst must not fetch."""


class UnreadableImageError(MediaError):
    """Bytes that are not an image, or too large a one."""


class ModelError(HardfirstError):
    """Weights that are missing, unsafe or broken."""


class TrainingError(HardfirstError):
    """A round's training failed; the champion keeps serving."""


class StoreError(HardfirstError):
    """The database is locked, full, of another version, or gone."""
