"""The signature of a remote version: binds a request without looking at its tensors' elements."""

from gateway.backends.signature import Feeds, Signature, covers
from gateway.errors import InvalidRequest
from gateway.protocol.tensors import Array, InferRequest


class RemoteFeeds(dict[str, Array]):
    """The inputs of one call, and the request that they come from. `answered_by`: JSON members for its record."""

    request: InferRequest
    answered_by: bytes = b""


class RemoteSignature(Signature):
    """As the server declares it. The server itself says which inputs may be left out."""

    __slots__ = ()

    def bind(self, request: InferRequest) -> Feeds:
        """The inputs by name. Raises InvalidRequest for an unknown one, or one of another datatype or shape."""
        feeds = RemoteFeeds()
        feeds.request = request
        specs = self._by_name
        for tensor in request.inputs:
            name = tensor.name
            spec = specs.get(name)
            if spec is None:
                known = ", ".join(f"'{one.name}' ({one.datatype} {list(one.shape)})" for one in self.inputs)
                raise InvalidRequest(f"unknown input '{name}'; the model's inputs are {known}")
            if tensor.datatype != spec.datatype:
                raise InvalidRequest(f"input '{name}': datatype is {tensor.datatype}, the model takes {spec.datatype}")
            if not covers(spec.shape, tensor.data.shape):
                raise InvalidRequest(
                    f"input '{name}': shape is {list(tensor.data.shape)}, the model takes {list(spec.shape)}"
                    " (-1: any size)"
                )
            feeds[name] = tensor.data
        return feeds


def answered_by(feeds: Feeds) -> bytes:
    """The members of a record that say which server answered the call; empty if none did."""
    return feeds.answered_by if isinstance(feeds, RemoteFeeds) else b""
