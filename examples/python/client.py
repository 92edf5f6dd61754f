"""A conversation, answered whole and piece by piece, and a prediction. See README.md for how to run it."""

import sys
from pathlib import Path

import grpc
from google.protobuf.json_format import ParseDict

# protoc writes imports from the root of the contract, so that root must be on the path.
sys.path.insert(0, str(Path(__file__).parent / "gen"))

from flowgate.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc, prediction_service_pb2, prediction_service_pb2_grpc

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5000"
# Answers can be large: gRPC's own limit is 4 MiB, Flowgate's 32 MiB.
channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 32 << 20)])

chat = chat_service_pb2_grpc.ChatServiceStub(channel)
question = chat_pb2.Message(role=chat_pb2.ROLE_USER, text="What is a gateway?")
request = chat_service_pb2.ChatRequest(endpoint="chat", messages=[question])

answer = chat.Chat(request, timeout=30)
print("".join(part.text.text for part in answer.choices[0].message.parts))

for event in chat.StreamChat(request, timeout=30):
    if event.delta.text:
        print(event.delta.text, end="", flush=True)
print()

models = prediction_service_pb2_grpc.PredictionServiceStub(channel)
# The message's JSON is MLflow's own, so a body for a scoring server reads as it is.
body = {"dataframe_split": {"columns": ["sepal length", "sepal width"], "data": [[5.1, 3.5], [6.7, 3.0]]}}
flowers = ParseDict(body, prediction_service_pb2.PredictRequest(endpoint="iris"))
print(list(models.Predict(flowers, timeout=30).predictions.list_value))

# What went wrong is a code and a message; the reason travels in the google.rpc details (package grpcio-status).
try:
    flowers.endpoint = "no-such-endpoint"
    models.Predict(flowers, timeout=30)
except grpc.RpcError as error:
    print(f"as expected: {error.code().name}: {error.details()}")
