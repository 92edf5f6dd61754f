// gRPC from Node: grpc-js with code made from proto/ at start, and connect-node with generated code.
// FLOWGATE_ADDR is `host:port`; FLOWGATE_PROTO the folder of the proto files.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

import { ChatService } from "./gen/flowgate/v1/chat_service_pb.js";

const address = process.env.FLOWGATE_ADDR;
const loaded = protoLoader.loadSync("flowgate/v1/chat_service.proto", {
  includeDirs: [process.env.FLOWGATE_PROTO],
  enums: String,
  oneofs: true,
});
const { flowgate } = grpc.loadPackageDefinition(loaded);
const client = new flowgate.v1.ChatService(address, grpc.credentials.createInsecure());
after(() => client.close());

const ask = (endpoint) => ({ endpoint, messages: [{ role: "ROLE_USER", text: "one two three" }] });
const deadline = () => ({ deadline: Date.now() + 20000 });

const chat = (request) =>
  new Promise((resolve, reject) => {
    client.chat(request, deadline(), (error, answer) => (error ? reject(error) : resolve(answer)));
  });

test("grpc-js: unary", async () => {
  const answer = await chat(ask("chat"));
  assert.equal(answer.choices[0].message.parts[0].text.text, "You said: one two three");
});

test("grpc-js: a stream", async () => {
  let text = "";
  let last;
  for await (const event of client.streamChat(ask("chat"), deadline())) {
    text += event.delta?.text ?? "";
    last = event.event;
  }
  assert.equal(text, "You said: one two three");
  assert.equal(last, "end");
});

test("grpc-js: an error", async () => {
  await assert.rejects(chat(ask("nobody")), (error) => error.code === grpc.status.NOT_FOUND && error.details !== "");
});

test("connect-node: a stream over h2", async () => {
  const transport = createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 20000 });
  const messages = [{ text: "one two three" }];
  let text = "";
  for await (const { event } of createClient(ChatService, transport).streamChat({ endpoint: "chat", messages })) {
    if (event.case === "delta" && event.value.delta.case === "text") text += event.value.delta.value;
  }
  assert.equal(text, "You said: one two three");
});
