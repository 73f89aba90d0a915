"""Images: fetched from allowed addresses only, checked by decoding, kept once per content."""

from common.media.fetch import MediaUnavailableError
from common.media.guard import Source, hosts_to_allow, shown
from common.media.library import MediaLibrary, Stored

__all__ = ["MediaLibrary", "MediaUnavailableError", "Source", "Stored", "hosts_to_allow", "shown"]
