// A conversation, answered whole and piece by piece, and a prediction. See README.md for how to run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	flowgate "flowgate.example/client/gen/flowgate/v1"
)

//go:generate npx --yes @bufbuild/buf@1.75.0 generate

func main() {
	address := "127.0.0.1:5000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// gRPC's own limit is 4 MiB, Flowgate's 32 MiB.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	// The deadline goes to Flowgate, and what is left of it on to the provider.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := converse(ctx, flowgate.NewChatServiceClient(connection)); err != nil {
		log.Fatal(err)
	}
	if err := predict(ctx, flowgate.NewPredictionServiceClient(connection)); err != nil {
		log.Fatal(err)
	}
}

func converse(ctx context.Context, client flowgate.ChatServiceClient) error {
	request := &flowgate.ChatRequest{
		Endpoint: "chat",
		Messages: []*flowgate.Message{{Role: flowgate.Role_ROLE_USER, Text: "What is a gateway?"}},
	}
	answer, err := client.Chat(ctx, request)
	if err != nil {
		return err
	}
	for _, part := range answer.GetChoices()[0].GetMessage().GetParts() {
		fmt.Print(part.GetText().GetText())
	}
	fmt.Println()

	stream, err := client.StreamChat(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			fmt.Println()
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Print(event.GetDelta().GetText())
	}
}

func predict(ctx context.Context, client flowgate.PredictionServiceClient) error {
	flowers := &flowgate.PredictRequest{
		Endpoint: "iris",
		Input: &flowgate.PredictRequest_Frame{Frame: &flowgate.Frame{Columns: []*flowgate.Column{
			doubles("sepal length", 5.1, 6.7),
			doubles("sepal width", 3.5, 3.0),
		}}},
		PredictionForm: flowgate.PredictionForm_PREDICTION_FORM_JSON,
	}
	answer, err := client.Predict(ctx, flowers)
	if err != nil {
		return err
	}
	fmt.Println(answer.GetPredictions().AsInterface())

	flowers.Endpoint = "no-such-endpoint"
	_, err = client.Predict(ctx, flowers)
	// status.Convert(err).Details() holds the google.rpc.ErrorInfo with Flowgate's reason.
	fmt.Println("as expected:", status.Code(err), status.Convert(err).Message())
	return nil
}

func doubles(name string, values ...float64) *flowgate.Column {
	return &flowgate.Column{Name: name, Values: &flowgate.Column_Doubles{Doubles: &flowgate.DoubleValues{Values: values}}}
}
