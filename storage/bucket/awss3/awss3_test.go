package awss3_test

import (
	"testing"

	"tablekeeper/storage/bucket/awss3"
	"tablekeeper/storage/bucket/buckettest"
)

func TestMinIO(t *testing.T) {
	t.Parallel()
	buckettest.RunStore(t, buckettest.StartMinIO(t), "aws", awss3.Open)
}

func TestVersityGW(t *testing.T) {
	t.Parallel()
	buckettest.RunStore(t, buckettest.StartVersityGW(t), "aws", awss3.Open)
}

func TestWire(t *testing.T) {
	t.Parallel()
	buckettest.RunWire(t, buckettest.StartVersityGW(t), "aws", awss3.Open)
}

func TestWiring(t *testing.T) {
	t.Run("MinIO", func(t *testing.T) { buckettest.RunWiring(t, buckettest.StartMinIO(t), "aws", awss3.Open) })
	t.Run("VersityGW", func(t *testing.T) { buckettest.RunWiring(t, buckettest.StartVersityGW(t), "aws", awss3.Open) })
}
