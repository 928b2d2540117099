package minio_test

import (
	"testing"

	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/bucket/minio"
)

func TestMinIO(t *testing.T) {
	buckettest.RunStore(t, buckettest.StartMinIO(t), "s3", minio.Open)
}

func TestVersityGW(t *testing.T) {
	buckettest.RunStore(t, buckettest.StartVersityGW(t), "s3", minio.Open)
}
