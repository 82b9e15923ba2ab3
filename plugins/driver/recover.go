package driver

import (
	"context"

	"google.golang.org/grpc"
)

// ServerOptions are the gRPC server options that whoever calls RegisterServer passes: a control call that panics is
// answered Internal, and the process with its other calls lives on.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(recoverUnary), grpc.ChainStreamInterceptor(recoverStream)}
}

func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
	defer recovered(&err)
	return handler(ctx, req)
}

func recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer recovered(&err)
	return handler(srv, stream)
}

// recovered, deferred, turns a panic into the error of a control call.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = ToStatus(Errorf(Internal, "driver panicked: %s", panicText(p)))
	}
}
