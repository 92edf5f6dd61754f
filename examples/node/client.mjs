// A conversation, answered whole and piece by piece, and a prediction. See README.md for how to run it.
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const address = process.argv[2] ?? "127.0.0.1:5000";
const contract = fileURLToPath(new URL("../../proto", import.meta.url));

// The contract is read when the program starts; nothing is generated.
const files = ["chat_service", "prediction_service"].map((name) => `flowgate/v1/${name}.proto`);
const { flowgate } = loadPackageDefinition(
  loadSync(files, { includeDirs: [contract], keepCase: true, enums: String, longs: String, oneofs: true }),
);
const limits = { "grpc.max_receive_message_length": 32 << 20 };
const connect = (Service) => new Service(address, credentials.createInsecure(), limits);
const unary = (client, method) => promisify(client[method]).bind(client);
const deadline = () => ({ deadline: Date.now() + 30_000 });

const chat = connect(flowgate.v1.ChatService);
const request = { endpoint: "chat", messages: [{ role: "ROLE_USER", text: "What is a gateway?" }] };

const answer = await unary(chat, "Chat")(request, deadline());
console.log(answer.choices[0].message.parts.map((part) => part.text?.text ?? "").join(""));

// A stream that breaks off throws here; leaving the loop early cancels the call.
for await (const { delta } of chat.StreamChat(request, deadline())) {
  process.stdout.write(delta?.text ?? "");
}
console.log();

const models = connect(flowgate.v1.PredictionService);
const doubles = (name, ...values) => ({ name, doubles: { values } });
const frame = { columns: [doubles("sepal length", 5.1, 6.7), doubles("sepal width", 3.5, 3.0)] };
const prediction = await unary(models, "Predict")({ endpoint: "iris", frame }, deadline());
console.log(JSON.stringify(prediction[prediction.output]));

try {
  await unary(models, "Predict")({ endpoint: "no-such-endpoint", frame }, deadline());
} catch (error) {
  console.log(`as expected: ${status[error.code]}: ${error.details}`);
}
chat.close();
models.close();
