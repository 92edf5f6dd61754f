"""A certificate authority for one test run, made with openssl."""

import subprocess
from pathlib import Path

SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
CLIENT = "extendedKeyUsage=clientAuth\n"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"


def openssl(*arguments):
    """Runs openssl quietly."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A folder with `ca.crt` and what it has signed."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self.folder / "ca.crt"
        self.request("ca", "Flowgate interop")
        self.sign("ca", CA, "-signkey", self.folder / "ca.key")

    def request(self, name, subject):
        """A key and a request for a certificate."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("req", "-new", "-key", key, "-out", request, "-subj", f"/CN={subject}")

    def sign(self, name, extensions, *signer):
        """Turns a request into a certificate."""
        text, request = self.folder / f"{name}.ext", self.folder / f"{name}.csr"
        text.write_text(extensions)
        openssl(
            "x509", "-req", "-in", request, "-days", 2, *signer, "-extfile", text, "-out", self.folder / f"{name}.crt"
        )

    def issue(self, name, subject, extensions):
        """A certificate of this authority; returns its path and its key's."""
        self.request(name, subject)
        self.sign(name, extensions, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"
