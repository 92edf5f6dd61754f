// gRPC-Web through connect-web with generated code, as a browser would call it. FLOWGATE_ADDR is `host:port`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ChatService } from "./gen/flowgate/v1/chat_service_pb.js";
import { EndpointService } from "./gen/flowgate/v1/endpoint_service_pb.js";
import { PredictionService } from "./gen/flowgate/v1/prediction_service_pb.js";

const transport = createGrpcWebTransport({ baseUrl: `http://${process.env.FLOWGATE_ADDR}`, defaultTimeoutMs: 20000 });
const chat = createClient(ChatService, transport);
const ask = (endpoint) => ({ endpoint, messages: [{ text: "one two three" }] });
const said = (answer) => answer.choices[0].message.parts.map((part) => part.kind.value.text).join("");

test("unary", async () => {
  assert.equal(said(await chat.chat(ask("chat"))), "You said: one two three");
});

test("a stream's pieces are the whole, with usage and an end", async () => {
  let text = "";
  const seen = new Set();
  for await (const { event } of chat.streamChat(ask("chat"))) {
    seen.add(event.case);
    if (event.case === "delta" && event.value.delta.case === "text") text += event.value.delta.value;
  }
  assert.equal(text, "You said: one two three");
  for (const kind of ["start", "delta", "choiceEnd", "usage", "end"]) assert.ok(seen.has(kind), kind);
});

test("an error has its code and details", async () => {
  await assert.rejects(chat.chat(ask("nobody")), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.NotFound);
    return error.details.some((detail) => detail.type === "google.rpc.ErrorInfo");
  });
});

for (const endpoint of ["cut", "no-end", "error-event"]) {
  test(`a stream broken by ${endpoint} rejects after what was said`, async () => {
    let text = "";
    const read = async () => {
      for await (const { event } of chat.streamChat(ask(endpoint))) {
        if (event.case === "delta" && event.value.delta.case === "text") text += event.value.delta.value;
      }
    };
    await assert.rejects(read(), (error) => error instanceof ConnectError && error.code === Code.Unavailable);
    assert.equal(text, "You said:");
  });
}

test("a stream refused before it began rejects with the upstream's fault", async () => {
  const read = async () => {
    for await (const _ of chat.streamChat(ask("fail-429")));
  };
  await assert.rejects(read(), (error) => error.code === Code.ResourceExhausted);
});

test("a prediction", async () => {
  const row = { kind: { case: "structValue", value: { fields: { x: { kind: { case: "numberValue", value: 1 } } } } } };
  const request = { endpoint: "mock-predict", input: { case: "dataframeRecords", value: { values: [row] } } };
  const answer = await createClient(PredictionService, transport).predict(request);
  assert.equal(answer.output.case, "predictions");
});

test("the endpoints", async () => {
  const { endpoints } = await createClient(EndpointService, transport).listEndpoints({});
  assert.ok(endpoints.some((endpoint) => endpoint.name === "chat"));
});

test("a browser of another origin may call", async () => {
  const answer = await fetch(`http://${process.env.FLOWGATE_ADDR}/flowgate.v1.ChatService/Chat`, {
    method: "OPTIONS",
    headers: {
      origin: "http://localhost:3000",
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type,x-grpc-web",
    },
  });
  assert.ok(answer.ok, `preflight answered ${answer.status}`);
});
