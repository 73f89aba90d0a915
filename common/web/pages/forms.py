"""Forms nobody else can send: a signed token in each, and the word of the browser where it comes from."""

from __future__ import annotations

import hashlib
import hmac

from flask import request
from itsdangerous import BadSignature, TimestampSigner

from common.config import Settings
from common.errors import HardfirstError

FIELD = "token"
VALID_S = 12 * 3600
"""A page that stayed open over night has to be opened again."""


class ForeignFormError(HardfirstError):
    """A form that this service did not give to this person. Answered with 403."""


class ReadOnlyError(HardfirstError):
    """HARDFIRST_READ_ONLY is set. Answered with 403."""


class Forms:
    """Signs and checks tokens; the key comes from the webhook secret, so that every process has the same."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        key = hmac.new(settings.secrets()[0].encode(), b"forms of the pages", hashlib.sha256).digest()
        self._signer = TimestampSigner(key, salt="hardfirst.forms", digest_method=hashlib.sha256)

    def token(self) -> str:
        """For one form of the person who asks."""
        return self._signer.sign(_person()).decode()

    def check(self) -> None:
        """Before anything is changed.

        Raises:
            ReadOnlyError: Nothing may be.
            ForeignFormError: The token is missing, too old or somebody else's, or the form is of another site.
        """
        if self._settings.read_only:
            raise ReadOnlyError("HARDFIRST_READ_ONLY is set: nothing can be changed here; commands still can")
        try:
            person = self._signer.unsign(request.form.get(FIELD, ""), max_age=VALID_S)
        except BadSignature as error:
            raise ForeignFormError("this form is too old or was not made here: open the page again") from error
        # Browsers say so of every request; scripts need not.
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if not hmac.compare_digest(person, _person()) or site not in ("same-origin", "none"):
            raise ForeignFormError("this form was sent by another site or another person: open the page again")


def _person() -> bytes:
    given = request.authorization
    return ((given.username if given else "") or "").encode()
