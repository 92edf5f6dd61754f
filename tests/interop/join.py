"""Joins the events of a stream to the answer that a unary call would have given."""

import json

import rpc


def joined(events):
    """The ChatResponse that StreamChat's events add up to; fails unless the stream is whole."""
    answer, parts, ended = rpc.chat.ChatResponse(), {}, False
    for place, event in enumerate(events):
        assert event.sequence == place and not ended, event
        kind = event.WhichOneof("event")
        if kind == "start":
            answer.id, answer.model, answer.created = event.start.id, event.start.model, event.start.created
        elif kind == "delta":
            add(parts, event.delta)
        elif kind == "choice_end":
            end = event.choice_end
            answer.choices.add(index=end.choice, finish_reason=end.finish_reason, raw_finish_reason=end.raw_finish_reason,
                stop_sequence=end.stop_sequence)
        elif kind == "usage":
            answer.usage.CopyFrom(event.usage)
        else:
            ended = kind == "end"
            answer.call.CopyFrom(event.end.call)
    assert ended, "the stream has no end"
    answer.choices.sort(key=lambda choice: choice.index)
    for choice in answer.choices:
        fill(choice, parts.get(choice.index, {}))
    return answer


def add(parts, delta):
    """Puts one delta where it belongs: `parts` is {choice: {part: Part}, ...}, with logprobs beside the parts."""
    choice = parts.setdefault(delta.choice, {})
    if delta.HasField("logprobs"):
        choice.setdefault("logprobs", []).append(delta.logprobs)
    kind = delta.WhichOneof("delta")
    if kind is None:
        return
    part = choice.setdefault(delta.part, rpc.types.Part())
    if kind == "text":
        part.text.text += delta.text
    elif kind == "tool_call":
        part.tool_call.CopyFrom(delta.tool_call)
    elif kind == "arguments":
        part.tool_call.arguments += delta.arguments
    elif kind == "reasoning":
        part.reasoning.text += delta.reasoning
    elif kind == "signature":
        (part.tool_call if part.HasField("tool_call") else part.reasoning).signature += delta.signature
    elif kind == "redacted":
        part.reasoning.redacted += delta.redacted
    else:
        raise AssertionError(f"no way to join {kind}")


def fill(choice, found):
    """Writes what was found for one choice."""
    choice.message.role = rpc.types.ROLE_ASSISTANT
    for logprobs in found.pop("logprobs", []):
        choice.logprobs.content.extend(logprobs.content)
        choice.logprobs.refusal.extend(logprobs.refusal)
    for place in sorted(found):
        choice.message.parts.append(found[place])


def said(answer):
    """The text of the first choice."""
    return "".join(part.text.text for part in answer.choices[0].message.parts)


def calls(answer):
    """The tool calls of the first choice, by name and arguments as text."""
    parts = answer.choices[0].message.parts
    return [(part.tool_call.name, part.tool_call.arguments) for part in parts if part.HasField("tool_call")]


def both(stub, request):
    """The answer to `request`, which must be the same whole and as a stream, but for ids, signatures, times and spaces in arguments."""
    whole, streamed = stub.Chat(request, timeout=rpc.SECONDS), joined(stub.StreamChat(request, timeout=rpc.SECONDS))
    # A stream may begin before its protocol has told the model.
    streamed.model = streamed.model or whole.model
    assert plain(streamed) == plain(whole), f"{plain(streamed)}\nis not\n{plain(whole)}"
    return whole


def plain(answer):
    """What must be the same each time."""
    copy = rpc.chat.ChatResponse()
    copy.CopyFrom(answer)
    for field in ("id", "created", "call", "provider_fields"):
        copy.ClearField(field)
    for choice in copy.choices:
        for part in choice.message.parts:
            if part.HasField("reasoning"):
                part.reasoning.ClearField("signature")
            if part.HasField("tool_call"):
                part.tool_call.ClearField("id")
                # Some protocols carry an object in a whole answer, and its text in a stream.
                part.tool_call.arguments = json.dumps(json.loads(part.tool_call.arguments))
    return copy
