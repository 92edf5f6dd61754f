// Package interop calls a running Flowgate with a client that protoc-gen-go made from proto/.
// FLOWGATE_ADDR is `host:port`.
package interop

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "flowgate.test/interop/gen/flowgatev1"
)

const said = "You said: one two three"

// dial opens a connection and a deadline for one test.
func dial(t *testing.T) (context.Context, *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient(os.Getenv("FLOWGATE_ADDR"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	return ctx, conn
}

// ask makes a request with one user message.
func ask(endpoint string) *pb.ChatRequest {
	message := &pb.Message{Role: pb.Role_ROLE_USER, Text: "one two three"}
	return &pb.ChatRequest{Endpoint: endpoint, Messages: []*pb.Message{message}}
}

func TestChat(t *testing.T) {
	ctx, conn := dial(t)
	answer, err := pb.NewChatServiceClient(conn).Chat(ctx, ask("chat"))
	if err != nil {
		t.Fatal(err)
	}
	if text := answer.GetChoices()[0].GetMessage().GetParts()[0].GetText().GetText(); text != said {
		t.Fatalf("said %q", text)
	}
}

func TestStreamChat(t *testing.T) {
	ctx, conn := dial(t)
	stream, err := pb.NewChatServiceClient(conn).StreamChat(ctx, ask("chat"))
	if err != nil {
		t.Fatal(err)
	}
	text, ended := "", false
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text += event.GetDelta().GetText()
		ended = event.GetEnd() != nil
	}
	if text != said || !ended {
		t.Fatalf("said %q, ended %v", text, ended)
	}
}

func TestErrorHasAReason(t *testing.T) {
	ctx, conn := dial(t)
	_, err := pb.NewChatServiceClient(conn).Chat(ctx, ask("nobody"))
	found := status.Convert(err)
	if found.Code() != codes.NotFound {
		t.Fatalf("got %v", err)
	}
	for _, detail := range found.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == "CALLER_ENDPOINT_NOT_FOUND" {
			return
		}
	}
	t.Fatalf("no reason in %v", found.Details())
}

func TestPredict(t *testing.T) {
	ctx, conn := dial(t)
	rows, err := structpb.NewList([]any{map[string]any{"x": 1.0}, map[string]any{"x": 2.0}})
	if err != nil {
		t.Fatal(err)
	}
	request := &pb.PredictRequest{
		Endpoint: "mock-predict",
		Input:    &pb.PredictRequest_DataframeRecords{DataframeRecords: rows},
	}
	answer, err := pb.NewPredictionServiceClient(conn).Predict(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(answer.GetPredictions().GetListValue().GetValues()); got != 2 {
		t.Fatalf("%d predictions for 2 rows", got)
	}
}
