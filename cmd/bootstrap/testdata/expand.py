# Expands template.yaml as SAM does, for a CloudFormation that knows no SAM. Usage: expand.py TEMPLATE CODE_URI
import json
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class Policies:
    def load(self):
        names = ["AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole", "AWSXRayDaemonWriteAccess", "AWSXrayWriteOnlyAccess"]
        return {name: "arn:aws:iam::aws:policy/" + name for name in names}


with open(sys.argv[1]) as f:
    template = yaml_parse(f)
template["Globals"]["Function"]["CodeUri"] = sys.argv[2]
expanded = transform(template, {}, Policies())
for name, resource in expanded["Resources"].items():
    # CloudFormation ends the name of a FIFO queue in .fifo by itself; moto does not.
    if resource["Type"] == "AWS::SQS::Queue" and resource["Properties"].get("FifoQueue"):
        resource["Properties"]["QueueName"] = name + ".fifo"
json.dump(expanded, sys.stdout)
