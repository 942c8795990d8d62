"""A leg: ICE, DTLS and SRTP by aiortc; what carries sound and picture is ours."""
